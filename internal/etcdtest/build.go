package etcdtest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// buildOnce spares the tests of one process all builds but the first.
var buildOnce = sync.OnceValues(buildServer)

func build(tb testing.TB) string {
	tb.Helper()
	binary, err := buildOnce()
	if err != nil {
		tb.Fatalf("build the test etcd: %v", err)
	}
	return binary
}

// buildServer builds testetcd at a path that every test process of this
// checkout shares, one at a time; go build does nothing where the file is
// fresh already. It runs inside the examples module, which alone knows the
// etcd server, so that it works with and without the workspace.
func buildServer() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(root))
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("perennial-test-%d-%x", os.Getuid(), sum[:6]))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	binary := filepath.Join(dir, "testetcd")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	cmd := exec.Command("go", "build", "-o", binary, "./internal/testetcd")
	cmd.Dir = filepath.Join(root, "examples")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v in %s: %w\n%s", cmd.Args, cmd.Dir, err, out)
	}
	return binary, nil
}

// moduleRoot walks up from the package directory, in which go test runs.
func moduleRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "examples", "internal", "testetcd", "main.go")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no examples/internal/testetcd in any parent of " + start)
		}
	}
}
