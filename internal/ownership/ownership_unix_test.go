//go:build unix

package ownership

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatAnotherUserCouldNotReadIsNotWritten(t *testing.T) {
	dir := t.TempDir()
	if err := Check(dir); err != nil {
		t.Error(err)
	}
	if err := Check(filepath.Join(dir, "absent")); err == nil {
		t.Error("a directory that there is not is somebody's")
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can give a directory away")
	}
	if err := os.Chown(dir, 4711, -1); err != nil {
		t.Fatal(err)
	}
	if err := Check(dir); err == nil || !strings.Contains(err.Error(), "4711") {
		t.Errorf("a directory of another user: %v", err)
	}
}
