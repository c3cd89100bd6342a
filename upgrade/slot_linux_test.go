package upgrade

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// makeSlot makes a slot around a real executable.
func makeSlot(t *testing.T, s slots, version string) Slot {
	t.Helper()
	exe := filepath.Join(t.TempDir(), version)
	data, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, append(data, version...), 0o700); err != nil {
		t.Fatal(err)
	}
	digest, err := fileDigest(exe)
	if err != nil {
		t.Fatal(err)
	}
	slot, err := s.adopt(exe, Ref{Version: version, Binary: digest})
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

func TestCollectionSparesWhatIsNeeded(t *testing.T) {
	s := slots{t.TempDir()}
	now := time.Now()
	long := now.Add(-100 * time.Hour)
	for _, v := range []string{"1.0.0", "1.1.0", "1.2.0"} {
		if err := s.prove(makeSlot(t, s, v), long, 0); err != nil {
			t.Fatal(err)
		}
	}
	// Retired long ago, but a process executes it.
	busy, err := s.open(makeSlot(t, s, "1.1.0").Name())
	if err != nil {
		t.Fatal(err)
	}
	sleeper := exec.Command(busy.binary(), "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	recent := makeSlot(t, s, "1.3.0")
	if err := s.prove(recent, now.Add(-time.Hour), 0); err != nil {
		t.Fatal(err)
	}
	current := makeSlot(t, s, "1.4.0")
	if err := s.prove(current, now, 0); err != nil {
		t.Fatal(err)
	}
	failed := makeSlot(t, s, "1.5.0")
	kept := makeSlot(t, s, "1.6.0")
	if err := os.MkdirAll(filepath.Join(s.root(), "1.7.0-unfinished"), 0o700); err != nil {
		t.Fatal(err)
	}
	removed, err := s.collect([]string{kept.Name()}, 72*time.Hour, 1<<40, now)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(removed, " ")
	for _, name := range []string{busy.Name(), recent.Name(), current.Name(), kept.Name()} {
		if strings.Contains(got, name) {
			t.Errorf("%s was removed and is needed", name)
		}
	}
	for _, name := range []string{failed.Name(), "1.0.0", "1.7.0-unfinished"} {
		if !strings.Contains(got, name) {
			t.Errorf("%s was kept for ever; removed: %s", name, got)
		}
	}
	if err := sleeper.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = sleeper.Wait()
	if removed, err = s.collect(nil, 72*time.Hour, 1<<40, now); err != nil || !strings.Contains(strings.Join(removed, " "), busy.Name()) {
		t.Errorf("after its process ended: removed %v, %v", removed, err)
	}
}

func TestRetentionByBytesLetsTheOldestGoAndKeepsTheOneReplacedLast(t *testing.T) {
	s := slots{t.TempDir()}
	now := time.Now()
	var made []Slot
	for i, v := range []string{"1.0.0", "1.1.0", "1.2.0", "1.3.0"} {
		made = append(made, makeSlot(t, s, v))
		if err := s.prove(made[i], now.Add(time.Duration(i)*time.Minute), 0); err != nil {
			t.Fatal(err)
		}
	}
	size := made[0].size()
	later := now.Add(time.Hour)
	for _, c := range []struct {
		budget int64
		want   []string
	}{
		{3 * 2 * size, nil},
		{2*size + size/2, []string{made[0].Name()}},
		{1, []string{made[1].Name()}}, // of three the one replaced last stays
		{1, nil},
	} {
		removed, err := s.collect(nil, 72*time.Hour, c.budget, later)
		if err != nil || !slices.Equal(removed, c.want) {
			t.Errorf("budget %d: removed %v, %v; want %v", c.budget, removed, err, c.want)
		}
	}
	if removed, err := s.collect(nil, time.Minute, 1<<40, later); err != nil || len(removed) != 1 {
		t.Errorf("past its retention it was kept: %v, %v", removed, err)
	}
}

func TestCollectionSparesBothSidesOfAnAttemptInProgress(t *testing.T) {
	state := t.TempDir()
	s := slots{state}
	now := time.Now()
	from, to, cur := makeSlot(t, s, "1.0.0"), makeSlot(t, s, "1.1.0"), makeSlot(t, s, "1.2.0")
	if err := s.prove(cur, now, 0); err != nil {
		t.Fatal(err)
	}
	u := &Upgrader{running: cur, journal: &journal{last: Attempt{State: Probation, From: from.Ref, To: to.Ref}}}
	if removed, err := s.collect(u.needed(), 0, 0, now); err != nil || len(removed) > 0 {
		t.Errorf("removed %v, %v in the middle of an attempt", removed, err)
	}
	u.journal.last.State = RolledBack
	if removed, err := s.collect(u.needed(), 0, 0, now); err != nil || len(removed) != 2 {
		t.Errorf("removed %v, %v after its end", removed, err)
	}
}

func TestSlotWithoutItsRecordIsNoSlot(t *testing.T) {
	s := slots{t.TempDir()}
	slot := makeSlot(t, s, "1.0.0")
	if err := os.Remove(filepath.Join(slot.dir, completeFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.open(slot.Name()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unfinished slot was opened: %v", err)
	}
}

func TestDamagedCurrentIsToldNotGuessed(t *testing.T) {
	s := slots{t.TempDir()}
	slot := makeSlot(t, s, "1.0.0")
	if err := s.prove(slot, time.Now(), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.remove(slot.Name()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.current(); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "not a complete slot") {
		t.Errorf("current = %v: an agent would adopt something else in silence", err)
	}
}

func TestSlotThatHasTheExecutableIsKeptUnderItsNewManifest(t *testing.T) {
	s := slots{t.TempDir()}
	slot := makeSlot(t, s, "1.0.0")
	if err := s.prove(slot, time.Now(), 0); err != nil {
		t.Fatal(err)
	}
	slot, err := s.open(slot.Name())
	if err != nil {
		t.Fatal(err)
	}
	ref := slot.Ref
	ref.Manifest = "sha256:" + strings.Repeat("ef", 32)
	if _, err := s.relabel(slot, ref, []byte("{}"), []byte("signature")); err != nil {
		t.Fatal(err)
	}
	got, err := s.open(slot.Name())
	if err != nil || got.Manifest != ref.Manifest || got.Proven.IsZero() {
		t.Errorf("%+v, %v: want the same slot, proven, under %s", got, err, ref.Manifest)
	}
	for name, want := range map[string]string{releaseFile: "{}", releaseFile + ".minisig": "signature"} {
		if data, err := os.ReadFile(filepath.Join(slot.dir, name)); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}
