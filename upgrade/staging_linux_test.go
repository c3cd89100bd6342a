package upgrade

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/release"
)

// staged asks for pin to be staged, and expects that.
func (r *rig) staged(pin release.Pin, retain time.Duration) Attempt {
	r.Helper()
	a := r.followed(r.leave(Request{Action: ActionStage, Pin: pin, Retain: retain}))
	if a.State != Committed || !strings.Contains(a.Reason, "staged, not started: kept until ") {
		r.Fatalf("staging %s: %s: %s", pin.Version, a.State, a.Reason)
	}
	return a
}

// has expects that exactly these versions have a slot, once collection is over.
func (r *rig) has(versions ...string) {
	r.Helper()
	var there []string
	waittest.Within(r, waittest.Patience, "the slots are those of "+strings.Join(versions, ", "), func() bool {
		complete, unfinished, err := slots{r.env.StateDir}.list()
		if there = nil; err != nil || len(unfinished) > 0 {
			return false
		}
		for _, s := range complete {
			there = append(there, s.Version)
		}
		slices.Sort(there)
		return slices.Equal(there, versions)
	})
}

// TestStagedReleaseIsSwitchedToWithoutARepository: all of a fleet switch with one
// write, and none of them may ask the repository for anything then, nor have lost
// what it staged by a restart.
func TestStagedReleaseIsSwitchedToWithoutARepository(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	first := r.serves("1.0.0")
	one, two := r.publish(build{Version: "1.1.0"}), r.publish(build{Version: "1.2.0"})
	r.staged(one, 0)
	r.staged(two, time.Hour)
	r.has("1.0.0", "1.2.0") // one is kept, the newest
	if w := r.serves("1.0.0"); w != first || strings.Contains(r.hooks(), "before-start") {
		t.Errorf("it was started: %+v, it was %+v; hooks %q", w, first, r.hooks())
	}
	r.kill()
	r.start(r.cmd.Path)
	waittest.Nil(r, "the status tells what is staged", func() error {
		var s Status
		err := r.get("/status", &s)
		if err == nil && (s.Staged == nil || s.Staged.Version != "1.2.0" || s.outcome() != OutcomeStaged) {
			err = fmt.Errorf("staged: %+v (%s)", s.Staged, s.outcome())
		}
		return err
	})
	r.has("1.0.0", "1.2.0")
	r.away()
	r.write("unendorsed", "1.2.0") // it was endorsed when it was staged
	r.write("loud", "")            // but the host was quiet then
	if a := r.followed(r.leave(Request{Pin: two})); a.State != Failed || !strings.Contains(a.Reason, "it is loud here") {
		t.Errorf("%s: %s", a.State, a.Reason)
	}
	r.removes("loud")
	a := r.followed(r.leave(Request{Pin: two}))
	if a.State != Committed || !strings.Contains(a.AllowedBy, "staged before") {
		t.Fatalf("%s: %s (allowed by %s)", a.State, a.Reason, a.AllowedBy)
	}
	r.serves("1.2.0")
	if slot, err := (slots{r.env.StateDir}).current(); err != nil || slot.Staged != nil {
		t.Errorf("what runs is kept as staged: %+v, %v", slot.Staged, err)
	}
	// What was staged and dropped needs the repository.
	if a := r.followed(r.leave(Request{Pin: one})); a.State != Failed {
		t.Errorf("%s: %s", a.State, a.Reason)
	}
}

// What is killed while it stages leaves the slot whole, or nothing.
func TestStagingThatIsKilledLeavesNoHalfARelease(t *testing.T) {
	t.Parallel()
	for step, left := range map[string][]string{
		"stage-before-complete": {"1.0.0"},
		"stage-complete":        {"1.0.0"},
		"stage-kept":            {"1.0.0", "1.1.0"},
	} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 100*time.Millisecond, map[string]string{"1.0.0": step + "=kill"})
			pin := r.publish(build{Version: "1.1.0"})
			id := r.leave(Request{Action: ActionStage, Pin: pin})
			<-r.done
			r.awaitFree()
			r.env.Failpoints = nil
			r.start(r.cmd.Path)
			if a := r.followed(id); a.State != Failed || !strings.Contains(a.Reason, "interrupted") {
				t.Errorf("%s: %s", a.State, a.Reason)
			}
			r.has(left...)
			if a := r.followed(r.leave(Request{Pin: pin})); a.State != Committed || r.current() != "1.1.0" {
				t.Errorf("the upgrade to it: %s: %s", a.State, a.Reason)
			}
		})
	}
}

// A release that was staged while it was offered is not started once the host
// knows better.
func TestStagedReleaseThatWasWithdrawnOrIsTooOldIsNotStartedUnseen(t *testing.T) {
	t.Parallel()
	r := newWatchingRig(t)
	r.first(build{Version: "1.0.0"})
	pin := r.publish(build{Version: "1.1.0"})
	r.staged(pin, 0)
	r.yank("1.1.0", "loses records")
	r.knows("1.1.0")
	r.kill()
	r.away()
	r.start(r.cmd.Path)
	if a := r.followed(r.leave(Request{Pin: pin})); a.State != Failed || !strings.Contains(a.Reason, "since it was staged") || !strings.Contains(a.Reason, "loses records") {
		t.Errorf("%s: %s", a.State, a.Reason)
	}
}

func TestStagedReleaseIsTakenWithoutTheRepositoryOnlyWhileTheIndexIsValid(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	u, err := New(Config{StateDir: dir, Name: "demo", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	u.slots, u.client = slots{dir}, new(release.Client)
	now := time.Now()
	slot := goldenSlot(t, dir, "1.1.0", "ab", time.Time{})
	pin := release.Pin{Version: "1.1.0", Digest: "sha256:" + strings.Repeat("cd", 32)}
	slot.Manifest = pin.Digest
	for name, c := range map[string]struct {
		staged *Staging
		used   bool
	}{
		"valid":                   {&Staging{now.Add(-time.Hour), now.Add(time.Hour), now.Add(time.Hour)}, true},
		"never staged":            {nil, false},
		"kept no longer":          {&Staging{now.Add(-time.Hour), now.Add(-time.Minute), now.Add(time.Hour)}, false},
		"index expired":           {&Staging{now.Add(-time.Hour), now.Add(time.Hour), now.Add(-time.Minute)}, false},
		"index unknown":           {&Staging{now.Add(-time.Hour), now.Add(time.Hour), time.Time{}}, false},
		"the clock was set back":  {&Staging{now.Add(time.Hour), now.Add(2 * time.Hour), now.Add(3 * time.Hour)}, false},
		"another manifest's slot": {&Staging{now.Add(-time.Hour), now.Add(time.Hour), now.Add(time.Hour)}, false},
	} {
		slot.Staged = c.staged
		if err := slot.save(); err != nil {
			t.Fatal(err)
		}
		asked := pin
		if strings.HasPrefix(name, "another") {
			asked.Digest = "sha256:" + strings.Repeat("ef", 32)
		}
		// It has no executable: one that would be used fails at that.
		if _, _, err := u.staged(asked, now); errors.Is(err, os.ErrNotExist) != c.used || errors.Is(err, errNotStaged) == c.used {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWhatIsKeptIsBounded: whoever may ask for releases must fill no disk with
// them, nor have one thrown away that somebody is to go back to.
func TestWhatIsKeptIsBounded(t *testing.T) {
	t.Parallel()
	s := slots{t.TempDir()}
	now := time.Now()
	day := 24 * time.Hour
	cur := makeSlot(t, s, "2.0.0")
	if err := s.prove(cur, now, 0); err != nil {
		t.Fatal(err)
	}
	mark := func(version string, edit func(*Slot)) {
		slot := makeSlot(t, s, version)
		edit(&slot)
		if err := slot.save(); err != nil {
			t.Fatal(err)
		}
	}
	retired := func(ago, keep time.Duration) func(*Slot) {
		return func(slot *Slot) {
			slot.Proven, slot.Retired = now.Add(-100*day), now.Add(-ago)
			if keep != 0 {
				slot.Keep = now.Add(keep)
			}
		}
	}
	mark("1.0.0", retired(10*day, 0))
	mark("1.1.0", retired(10*day, day))
	mark("1.2.0", retired(10*day, -time.Hour))
	mark("1.3.0", retired(time.Hour, -time.Hour))
	mark("3.0.0", func(slot *Slot) { slot.Staged = &Staging{At: now.Add(-2 * time.Hour), Until: now.Add(day)} })
	mark("3.1.0", func(slot *Slot) { slot.Staged = &Staging{At: now.Add(-time.Hour), Until: now.Add(day)} })
	mark("3.2.0", func(slot *Slot) { slot.Staged = &Staging{At: now.Add(-time.Minute), Until: now.Add(-time.Second)} })
	left := func() (versions []string) {
		if _, err := s.collect(nil, 3*day, 1<<30, now); err != nil {
			t.Fatal(err)
		}
		complete, _, err := s.list()
		if err != nil {
			t.Fatal(err)
		}
		for _, slot := range complete {
			versions = append(versions, slot.Version)
		}
		slices.Sort(versions)
		return versions
	}
	if got := left(); !slices.Equal(got, []string{"1.1.0", "1.3.0", "2.0.0", "3.1.0"}) {
		t.Errorf("kept %q", got)
	}
	staged, err := s.waiting()
	if err != nil || staged == nil || staged.Version != "3.1.0" {
		t.Fatalf("%+v waits, %v", staged, err)
	}
	if err := (quarantine(s)).add(*staged, BadEnvironment, "full", now); err != nil {
		t.Fatal(err)
	}
	if got := left(); !slices.Contains(got, "3.1.0") {
		t.Errorf("thrown away for the host's sake: %q", got)
	}
	if err := (quarantine(s)).add(*staged, BadBinary, "dies", now); err != nil {
		t.Fatal(err)
	}
	if got := left(); slices.Contains(got, "3.1.0") {
		t.Errorf("a release that failed is kept: %q", got)
	}
}

// A kill after the pointer has moved must not forget for how long the release
// before is to be kept.
func TestRetentionThatWasAskedForSurvivesAKillAtCommit(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, map[string]string{"1.0.0": "commit-after-current=kill", "1.1.0": "take-over=kill"})
	id := r.leave(Request{Pin: r.publish(build{Version: "1.1.0"}), Retain: 300 * time.Hour})
	<-r.done
	r.awaitFree()
	r.env.Failpoints = nil
	r.start(r.cmd.Path)
	if a := r.followed(id); a.State != Committed || a.Retain != 300*time.Hour {
		t.Fatalf("%s: %s, retains %v", a.State, a.Reason, a.Retain)
	}
	complete, _, err := slots{r.env.StateDir}.list()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range complete {
		if left := time.Until(s.Keep); s.Version == "1.0.0" && (left < 299*time.Hour || left > 300*time.Hour) {
			t.Errorf("the release before is kept until %v", s.Keep)
		}
	}
	if _, err := os.Stat(filepath.Join(r.env.StateDir, slotsDir)); err != nil || len(complete) != 2 {
		t.Errorf("%d slots, %v", len(complete), err)
	}
}
