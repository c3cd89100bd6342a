//go:build linux

package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
)

// mountSilent mounts a FUSE file system whose server never answers, and
// returns what ends it.
func mountSilent(t *testing.T, dir string) (end func()) {
	t.Helper()
	server, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no FUSE here:", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d", server.Fd(), os.Getuid(), os.Getgid())
	if err := syscall.Mount("silent", dir, "fuse", 0, options); err != nil {
		_ = server.Close()
		t.Skip("no right to mount:", err)
	}
	return func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}
}

func TestFileSystemThatNeverAnswersHoldsUpNothing(t *testing.T) {
	silent, well := t.TempDir(), t.TempDir()
	end := mountSilent(t, silent)
	var s statter
	begun := time.Now()
	answers := s.ask([]string{silent, well})
	if took := time.Since(begun); took > 10*statfsTimeout {
		t.Errorf("it took %v", took)
	}
	if answers[0].err == nil || answers[1].err != nil || answers[1].usage.size == 0 {
		t.Errorf("%+v", answers)
	}
	// It is not asked again: every call would wait for ever.
	begun = time.Now()
	answers = s.ask([]string{silent, well})
	if answers[0].err == nil || !strings.Contains(answers[0].err.Error(), "does not answer since") || answers[1].err != nil {
		t.Errorf("%+v", answers)
	}
	if took := time.Since(begun); took >= statfsTimeout {
		t.Errorf("the second time took %v", took)
	}
	end()
	waittest.Until(t, "it is asked again once the call has returned", func() bool {
		return s.ask([]string{silent})[0].err == nil // it is a plain directory now
	})
}
