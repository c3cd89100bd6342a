package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// Whoever may not write to the cache is not told to fill it by the command that
// could not.
func TestPullIntoACacheThatCannotBeWrittenSaysWhy(t *testing.T) {
	s := newShelf(t, "1.0.0")
	dir := filepath.Join(s.dir, "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.ask("pull", "--cache", filepath.Join(dir, "cache"), "1.0.0").fails(t, 1, "not a directory")
	if runtime.GOOS == "linux" { // where not even root can make a directory
		r := s.ask("pull", "--cache", "/sys/agentd", "1.0.0")
		r.fails(t, 1, "the cache /sys/agentd, which could not be written", "/sys/agentd")
		if strings.Contains(r.stderr, "fills it") || strings.Contains(r.stderr, "Never") {
			t.Errorf("it says\n%s", r.stderr)
		}
	}
	for _, reason := range []error{fs.ErrPermission, syscall.EROFS} {
		if text := notKept("DIR", fmt.Errorf("mkdir DIR: %w", reason)).Error(); !strings.Contains(text, "DIR, which could not be written: mkdir DIR: "+reason.Error()) {
			t.Errorf("of %v it says %q", reason, text)
		}
	}
}
