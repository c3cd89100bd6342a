package plugin_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
)

// smallDisk is a directory on a file system of its own; fill takes all that is
// free there until free is called.
func smallDisk(t *testing.T) (dir string, fill, free func()) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=256m"); err != nil {
		t.Skipf("this user cannot mount a file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	filler := filepath.Join(dir, "filler")
	fill = func() {
		f, err := os.OpenFile(filler, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		for err == nil {
			_, err = f.Write(make([]byte, 1<<20))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	return dir, fill, func() {
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
}

const noSpace = "no space left on device"

// TestFullDiskIsNoVerdictOnAPlugin: when there is room again, nobody is to have
// to touch every plugin of a fleet.
func TestFullDiskIsNoVerdictOnAPlugin(t *testing.T) {
	t.Parallel()
	disk, fill, free := smallDisk(t)
	dir := t.TempDir()
	install(t, dir, spec{Name: "probe", Version: "1.0.0"})
	fill()
	h := startHost(t, dir, func(c *plugin.Config) {
		c.StateDir = filepath.Join(disk, "state")
		c.ScanEvery, c.CrashLimit = 100*time.Millisecond, 2
		c.HealthEvery = time.Hour
	})
	h.await(t, "probe", "refused for want of room for its copy", func(s plugin.Status) bool {
		return s.State == plugin.Refused && strings.Contains(s.Reason, noSpace)
	})
	free()
	first := h.awaitState(t, "probe", plugin.Running)

	fill()
	ends := func(s plugin.Status) {
		if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	ends(first)
	h.await(t, "probe", "tried in vain, more often than it may crash", func(s plugin.Status) bool {
		fill() // its end made some room
		if s.State == plugin.Quarantined {
			t.Fatalf("it is in quarantine, for want of room: %s", s.Reason)
		}
		if s.State == plugin.Running && s.PID != first.PID { // it was faster than the filler
			first = s
			ends(s)
		}
		return s.Exceptions > 4 && strings.Contains(s.Reason, noSpace)
	})
	free()
	h.awaitAnother(t, "probe", first)
}

func TestPluginChangesHostsWhileTheDiskIsFull(t *testing.T) {
	t.Parallel()
	disk, fill, free := smallDisk(t)
	h, first := startProbe(t, func(c *plugin.Config) { c.StateDir = filepath.Join(disk, "state") })
	fill()
	other, ended := h.handOver(t, nil)
	other.same(t, first)
	waittest.Next(t, "the end of the first host", ended)
	third, ended := other.handOver(t, nil)
	third.same(t, first)
	waittest.Next(t, "the end of the second host", ended)
	free()
}

// TestPluginWithoutARecordIsStoppedAndNotLeft: the next host would run a second
// one beside it.
func TestPluginWithoutARecordIsStoppedAndNotLeft(t *testing.T) {
	t.Parallel()
	h := startHost(t, t.TempDir(), nil)
	records := filepath.Join(h.state, "plugins")
	waittest.Nil(t, "the directories are made", func() error { _, err := os.Stat(filepath.Join(h.state, "lock")); return err })
	if err := os.Remove(records); err != nil {
		t.Fatal(err)
	}
	install(t, h.dir, spec{Name: "probe", Version: "1.0.0"})
	s := h.awaitState(t, "probe", plugin.Running)
	h.Detach()
	h.end()
	if !processGone(s.PID) {
		t.Error("it was left to the next host, which cannot know of it")
	}
}

// TestPluginThatWasToldToStopIsNotTakenOver: it would do nothing any more, and
// say that it is well.
func TestPluginThatWasToldToStopIsNotTakenOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	install(t, dir, spec{Name: "probe", Version: "1.0.0", IgnoreStop: true})
	h := startHost(t, dir, nil)
	s := h.awaitState(t, "probe", plugin.Running)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.end()
	}()
	waittest.Until(t, "no host can take it over", func() bool {
		_, err := os.Stat(filepath.Join(h.state, "plugins", "probe.json"))
		return errors.Is(err, os.ErrNotExist)
	})
	if processGone(s.PID) {
		t.Error("it had ended by then: until then a host that comes after the death of this one takes it over")
	}
	waittest.Next(t, "the end of the host", ended)
}
