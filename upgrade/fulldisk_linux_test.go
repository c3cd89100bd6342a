package upgrade

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

// unwritable is an upgrader whose journal and quarantine cannot be written, as
// on a full disk, while links can still be moved. 1.1.0 is current, 1.0.0
// retained.
func unwritable(t *testing.T) (u *Upgrader, old, cur Slot) {
	t.Helper()
	dir := t.TempDir()
	s := slots{dir}
	old, cur = makeSlot(t, s, "1.0.0"), makeSlot(t, s, "1.1.0")
	for _, slot := range []Slot{old, cur} {
		if err := s.prove(slot, time.Now(), 0); err != nil {
			t.Fatal(err)
		}
	}
	u, err := New(Config{StateDir: dir, Name: "demo", Version: "1.0.0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	u.slots = s
	if err := u.load(); err != nil {
		t.Fatal(err)
	}
	u.journal.path = filepath.Join(dir, "no such directory", journalFile)
	if err := os.MkdirAll(filepath.Join(dir, quarantineFile, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	return u, old, cur
}

func TestInterruptedAttemptOnAFullDiskDoesNotKeepTheAgentFromStarting(t *testing.T) {
	for _, c := range []struct {
		state State
		want  State
	}{
		{Downloading, Failed}, {Starting, RolledBack}, {Probation, RolledBack}, {Committing, Committed}, {RollingBack, RolledBack},
	} {
		u, old, cur := unwritable(t)
		from, to := old, cur
		if c.want == RolledBack {
			from, to = cur, old
		}
		u.journal.last = Attempt{Schema: journalSchema, State: c.state, From: from.Ref, To: to.Ref, Started: time.Now()}
		u.resume(cur)
		u.endRollback()
		if got := u.journal.last.State; got != c.want {
			t.Errorf("%s became %s, want %s", c.state, got, c.want)
		}
	}
}

func TestReleaseThatFillsTheDiskIsGivenUpAllTheSame(t *testing.T) {
	u, old, cur := unwritable(t)
	next, err := u.abandon(choice{slot: cur}, "/usr/bin/agent", boots{Slot: cur.Name(), Starts: bootsMax})
	if err != nil || next.slot.Name() != old.Name() {
		t.Errorf("next is %s, %v; want %s", next.slot.Name(), err, old.Name())
	}
	if now, err := u.slots.current(); err != nil || now.Name() != old.Name() {
		t.Errorf("current names %s, %v", now.Name(), err)
	}
}

func TestSlotThatCannotBeReadIsNoObstacleForTheOthers(t *testing.T) {
	u, old, cur := unwritable(t)
	if err := os.WriteFile(filepath.Join(u.slots.root(), "stray"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	later := filepath.Join(u.slots.root(), "9.9.9-0123456789ab")
	if err := os.MkdirAll(later, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(later, completeFile), []byte(`{"schema":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if slot, err := u.slots.retained(release.Pin{}, cur.Name()); err != nil || slot.Name() != old.Name() {
		t.Errorf("retained is %s, %v", slot.Name(), err)
	}
	removed, err := u.slots.collect(nil, 0, 1, time.Now())
	if err != nil || len(removed) != 1 || removed[0] != old.Name() {
		t.Errorf("collected %v, %v; want the retired one alone", removed, err)
	}
}
