package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/examples/internal/hosttest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// TestFileSystemThatNeverAnswersHoldsUpNothing runs itself again in a mount
// namespace of its own: what other tests sample must not hang.
func TestFileSystemThatNeverAnswersHoldsUpNothing(t *testing.T) {
	hosttest.Mounting(t, askSilent)
}

// askSilent mounts a FUSE file system whose server never answers on dir.
func askSilent(t *testing.T, dir string) {
	server, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		hosttest.CannotMount(t, err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", server.Fd())
	if err := syscall.Mount("silent", dir, "fuse", 0, options); err != nil {
		_ = server.Close()
		hosttest.CannotMount(t, err)
	}
	well := t.TempDir()
	var s statter
	begun := time.Now()
	answers := s.ask([]string{dir, well})
	if took := time.Since(begun); took > 10*statfsTimeout {
		t.Errorf("it took %v", took)
	}
	if answers[0].err == nil || answers[1].err != nil || answers[1].usage.size == 0 {
		t.Errorf("%+v", answers)
	}
	// It is not asked again: every call would wait for ever.
	begun = time.Now()
	answers = s.ask([]string{dir, well})
	if answers[0].err == nil || !strings.Contains(answers[0].err.Error(), "does not answer since") || answers[1].err != nil {
		t.Errorf("%+v", answers)
	}
	if took := time.Since(begun); took >= statfsTimeout {
		t.Errorf("the second time took %v", took)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
		t.Error(err)
	}
	waittest.Until(t, "it is asked again once the call has returned", func() bool {
		return s.ask([]string{dir})[0].err == nil // it is a plain directory now
	})
}
