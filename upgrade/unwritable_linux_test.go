package upgrade

import (
	"strings"
	"testing"
	"time"
)

func TestRollbackOnAReadOnlyDiskSaysThatItIsReadOnly(t *testing.T) {
	t.Parallel()
	d := newDisk(t, 4, 100*time.Millisecond)
	s := slots{d.env.StateDir}
	for _, version := range []string{"1.0.0", "1.1.0"} {
		if err := s.prove(makeSlot(t, s, version), time.Now(), 0); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(says string) {
		t.Helper()
		d.remount("ro")
		_, err := RollBack(d.env.StateDir, Request{})
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "mounted read-only: mount it so that it can be written") || strings.Contains(err.Error(), "make room") {
			t.Errorf("%v, want that it says %q", err, says)
		}
		d.remount("rw")
	}
	refused("state directory " + d.env.StateDir + " cannot be written")
	lock, err := lockState(d.env.StateDir) // as an agent leaves it
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	refused("the journal in the state directory cannot be written")
}
