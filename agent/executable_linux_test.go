package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
)

// TestReplacedExecutableIsToldAsTheBytesThatRun: the record beside it says what was
// installed, and drift would hide behind it.
func TestReplacedExecutableIsToldAsTheBytesThatRun(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1").start()
	installed := m.registered()
	m.kill()
	slot, err := filepath.EvalSymlinks(m.state + "/current")
	if err != nil {
		t.Fatal(err)
	}
	other := f.binary(build{Version: "1.0.0", Remembers: true})
	want, err := digestOf(f.ctx(), other)
	if err == nil {
		err = os.Rename(other, filepath.Join(slot, "agent"))
	}
	if err != nil {
		t.Fatal(err)
	}
	m.launch(filepath.Join(slot, "agent")).takesOver()
	waittest.Nil(t, "the registration tells the bytes that run", func() error {
		e := m.registered()
		if e.BinaryDigest != want || e.Status.Upgrade.Running.Binary != installed.BinaryDigest || e.Version != "1.0.0" {
			return errors.New(e.BinaryDigest + " runs, " + e.Status.Upgrade.Running.Binary + " was installed")
		}
		return nil
	})
	// It is no pattern for others.
	e := m.registered()
	if _, err := e.PinOf("production"); err == nil || !strings.Contains(err.Error(), "not the one that was installed") {
		t.Errorf("the replaced bytes would become what is meant to run: %v", err)
	}
	// The file may be put back: what runs stays the same.
	if err := os.Remove(filepath.Join(slot, "agent")); err != nil {
		t.Fatal(err)
	}
	if e := m.registered(); e.BinaryDigest != want {
		t.Errorf("%s is told once the file is gone", e.BinaryDigest)
	}
}

func TestRegistrationTellsWhatTheAgentRunsOn(t *testing.T) {
	t.Parallel()
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	m := newFleet(t).member("a1").start()
	waittest.Nil(t, "the fingerprint is in the registration", func() error {
		if e := m.registered(); e.Fingerprint == nil || e.Fingerprint.Kernel != strings.TrimSpace(string(kernel)) {
			return fmt.Errorf("%+v", e.Fingerprint)
		}
		return nil
	})
}
