// Package peertest finds the programs of others that tests talk to.
package peertest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Find returns the path of a program, or skips the test. It looks for
// name-version/name in $PERENNIAL_TOOLS, or in perennial in the user's cache
// directory, where .ci/run installs it, and then for name in the search path.
func Find(tb testing.TB, name, version string) string {
	tb.Helper()
	tools := os.Getenv("PERENNIAL_TOOLS")
	if tools == "" {
		cache, err := os.UserCacheDir()
		if err == nil {
			tools = filepath.Join(cache, "perennial")
		}
	}
	path := filepath.Join(tools, name+"-"+version, name)
	if found, err := exec.LookPath(path); err == nil {
		return found
	}
	found, err := exec.LookPath(name)
	if err != nil {
		tb.Skipf("the peer %s %s is not installed: .ci/run installs it as %s", name, version, path)
	}
	return found
}
