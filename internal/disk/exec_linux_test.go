package disk

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A release on such a mount would be downloaded for nothing.
func TestMountThatCannotHoldExecutablesIsNamed(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs a mount of its own, and mounting needs root: run the tests as root for this one")
	}
	for name, c := range map[string]struct {
		flags uintptr
		want  error
	}{"usual": {0, nil}, "noexec": {syscall.MS_NOEXEC, ErrNoExec}, "read-only": {syscall.MS_RDONLY, ErrReadOnly}} {
		dir := t.TempDir()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", c.flags, "size=1m"); err != nil {
			t.Skipf("needs a mount of its own, and this environment forbids it: %v", err)
		}
		err := CheckExec(dir)
		if !errors.Is(err, c.want) || (err != nil && !strings.Contains(err.Error(), dir)) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}
	if err := CheckExec(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
}
