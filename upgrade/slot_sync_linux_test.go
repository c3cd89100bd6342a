package upgrade

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A pipe cannot be synced, which shows that it was tried.
func TestModeOfASlotsExecutableSurvivesAPowerCut(t *testing.T) {
	for name, mode := range map[string]fs.FileMode{"download": 0o600, "link to a file of a cache": 0o555} {
		t.Run(name, func(t *testing.T) {
			pipe := filepath.Join(t.TempDir(), "pipe")
			if err := syscall.Mkfifo(pipe, 0o600); err != nil {
				t.Fatal(err)
			}
			w, err := os.OpenFile(pipe, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = w.Close() }()
			if err := os.Chmod(pipe, mode); err != nil {
				t.Fatal(err)
			}
			if err := makeExecutable(pipe); err == nil || !strings.Contains(err.Error(), "sync") {
				t.Errorf("error %v, want one of fsync", err)
			}
		})
	}
}
