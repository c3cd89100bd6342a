//go:build unix

package fingerprint

import (
	"path/filepath"
	"syscall"
	"testing"
)

// TestFileThatWouldBeWaitedForIsNotOpened: a pipe in the place of a file holds up
// whoever opens it for ever.
func TestFileThatWouldBeWaitedForIsNotOpened(t *testing.T) {
	p := machine(t, map[string]string{"etc/x": ""})
	if err := syscall.Mkfifo(filepath.Join(p.root, "etc/os-release"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f := p.probe(t.Context()); f.OS != "" {
		t.Errorf("%+v", f)
	}
}
