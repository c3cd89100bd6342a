package release

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFrozenRepositoryIsNoticedAtExpiry(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0")
	expires := f.index().Expires
	c := f.client()
	f.clock = expires.Add(-time.Second)
	if _, err := c.Index(t.Context()); err != nil {
		t.Fatalf("a second before expiry: %v", err)
	}
	f.clock = expires
	if _, err := c.Index(t.Context()); !errors.Is(err, ErrExpired) {
		t.Errorf("at expiry: %v, want ErrExpired", err)
	}
	if err := f.repository(1).Refresh(t.Context(), "agentd"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Index(t.Context()); err != nil {
		t.Errorf("after Refresh: %v", err)
	}
}

func TestClockSetBackDoesNotMakeExpiredIndexCurrent(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0")
	frozen := f.snapshot()
	f.clock = f.clock.Add(20 * 24 * time.Hour)
	if err := f.repository(1).Refresh(t.Context(), "agentd"); err != nil {
		t.Fatal(err)
	}
	f.clock = f.clock.Add(20 * 24 * time.Hour)
	if _, err := f.client().Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The clock goes back to when the first index was young. That index is
	// a replay; an index with a higher sequence and the old expiry is not,
	// and must be refused for its age.
	f.restore(frozen, indexPath)
	x := f.index()
	x.Sequence = 9
	f.signIndex(1, x)
	f.clock = issued.Add(time.Hour)
	_, err := f.client().Index(t.Context())
	if !errors.Is(err, ErrExpired) || !strings.Contains(err.Error(), "set the clock") {
		t.Errorf("expired index with the clock set back: %v, want ErrExpired that says to set the clock", err)
	}
}

func TestClockThatWasWrongOnceDoesNotLockTheHostOut(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0")
	right := f.clock
	c := f.client()
	// Years ahead: everything is expired, and that must not be remembered.
	f.clock = right.AddDate(50, 0, 0)
	if _, err := c.Index(t.Context()); !errors.Is(err, ErrExpired) {
		t.Fatalf("fifty years ahead: %v, want ErrExpired", err)
	}
	f.clock = right
	if _, err := c.Index(t.Context()); err != nil {
		t.Errorf("clock mended: %v", err)
	}
	// Days ahead: remembered, and overtaken by the next index.
	f.clock = right.Add(29 * 24 * time.Hour)
	if _, err := c.Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.clock = right
	f.publish("1.1.0")
	if _, err := c.Index(t.Context()); err != nil {
		t.Errorf("index issued after the clock was mended: %v", err)
	}
}

func TestTrustStateOnlyMovesForward(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0", "1.1.0")
	if _, err := f.client().Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, err := readTrustState(f.state)
	if err != nil {
		t.Fatal(err)
	}
	if first.Sequence != 2 || first.Index != sha256Hex(f.read(f.path(indexPath))) || first.Name != "agentd" {
		t.Errorf("saved %+v", first)
	}
	f.clock = f.clock.Add(-2 * time.Hour)
	f.publish("1.2.0")
	if _, err := f.client().Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	second, err := readTrustState(f.state)
	if err != nil {
		t.Fatal(err)
	}
	if second.Sequence != 3 || second.Seen.Before(first.Seen) {
		t.Errorf("from %+v to %+v", first, second)
	}
	info, err := os.Stat(f.state)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("trust.json has mode %v (%v), want 0600", info.Mode(), err)
	}
}

func TestUnchangedIndexIsNotSavedAgain(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0")
	c := f.client()
	var writes []os.FileInfo
	for range 3 {
		if _, err := c.Index(t.Context()); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(f.state)
		if err != nil {
			t.Fatal(err)
		}
		writes = append(writes, info)
		f.clock = f.clock.Add(time.Minute)
	}
	if !os.SameFile(writes[0], writes[2]) {
		t.Error("trust.json was written although nothing had changed")
	}
	f.clock = f.clock.Add(seenStep)
	if _, err := c.Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(f.state)
	if err != nil {
		t.Fatal(err)
	}
	if os.SameFile(writes[0], info) {
		t.Error("the last-seen time is never saved")
	}
}

func TestTrustStateKeepsWhatOtherReleasesWrote(t *testing.T) {
	f := newFixture(t)
	f.write(f.state, f.read(filepath.Join("testdata", "trust-1.json")))
	f.publish("1.0.0", "1.1.0")
	if _, err := f.client().Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(f.read(f.state), &got); err != nil {
		t.Fatal(err)
	}
	if got["sequence"] != 2.0 || got["keyring"] == nil {
		t.Errorf("trust.json is now %v: want sequence 2 and the keyring of another release", got)
	}
}

func TestDamagedTrustStateStopsUpgrades(t *testing.T) {
	for name, text := range map[string]string{
		"empty":              "",
		"garbage":            "\x00\x00",
		"negative sequence":  `{"schema":1,"name":"agentd","sequence":-1,"index":""}`,
		"sequence, no index": `{"schema":1,"name":"agentd","sequence":3,"index":""}`,
		"newer schema":       `{"schema":2,"sequence":0}`,
		"no schema":          `{"sequence":0}`,
		"other program":      `{"schema":1,"name":"otherd","sequence":1,"index":"` + strings.Repeat("a", 64) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.publish("1.0.0")
			f.write(f.state, []byte(text))
			if _, err := f.client().Index(t.Context()); err == nil {
				t.Error("accepted, so that damaging the file would allow replays")
			}
			if string(f.read(f.state)) != text {
				t.Error("the file was changed")
			}
		})
	}
}

func TestTrustStateThatCannotBeSavedStopsUpgrades(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0")
	f.state = f.path("no", "such", "directory", "trust.json")
	if _, err := f.client().Index(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot be saved") {
		t.Errorf("error %v: an index was used that could be replayed away later", err)
	}
}

// A key holder can sign any sequence; the host must survive the largest.
func TestSequenceAtItsLimit(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0")
	x := f.index()
	for _, sequence := range []int64{0, -1, maxSequence + 1} {
		x.Sequence = sequence
		f.signIndex(1, x)
		if _, err := f.client().Index(t.Context()); err == nil {
			t.Errorf("sequence %d accepted", sequence)
		}
	}
	x.Sequence = maxSequence
	f.signIndex(1, x)
	if _, err := f.client().Index(t.Context()); err != nil {
		t.Errorf("largest sequence: %v", err)
	}
	if err := f.repository(1).Refresh(t.Context(), "agentd"); err == nil || !strings.Contains(err.Error(), "cannot grow") {
		t.Errorf("publishing beyond the largest sequence: %v", err)
	}
}
