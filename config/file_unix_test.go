//go:build unix

package config

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestAPipeInPlaceOfTheKeptFileDoesNotHangTheStart.
func TestAPipeInPlaceOfTheKeptFileDoesNotHangTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readFile(path, []string{"global"}, DefaultMaxBytes, 0); err == nil || !strings.Contains(err.Error(), "want a file") {
		t.Errorf("got %v", err)
	}
}
