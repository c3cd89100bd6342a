package upgrade

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/release"
)

// upgraded asks for a release of version and expects that it is committed.
func (r *rig) upgraded(version string) release.Pin {
	r.Helper()
	pin := r.publish(build{Version: version})
	r.ask(pin)
	if s := r.ends(version); s.State != Committed {
		r.Fatalf("%s: %s: %s", version, s.State, s.Reason)
	}
	r.serves(version)
	return pin
}

func (r *rig) write(name, content string) {
	r.Helper()
	if err := os.WriteFile(filepath.Join(r.env.StateDir, name), []byte(content), 0o600); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) removes(name string) {
	r.Helper()
	if err := os.Remove(filepath.Join(r.env.StateDir, name)); err != nil {
		r.Fatal(err)
	}
}

func TestRollbackOnDemandNeedsNeitherNetworkNorAValidIndex(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	first := r.upgraded("1.1.0")
	r.upgraded("1.2.0")
	if err := os.RemoveAll(r.env.Repository); err != nil {
		t.Fatal(err)
	}
	l := startLoad(r, 4, pace)
	for i, c := range []struct {
		pin  release.Pin
		want string
	}{
		{release.Pin{}, "1.1.0"},                 // the one before
		{release.Pin{}, "1.2.0"},                 // and back
		{release.Pin{Version: "1.0.0"}, "1.0.0"}, // adopted, so without a manifest
		{first, "1.1.0"},
	} {
		id := fmt.Sprint("rollback-", i)
		r.request(Request{ID: id, Action: ActionRollback, Pin: c.pin})
		if s := r.ends(id); s.State != Committed || s.Action != ActionRollback || s.Running.Version != c.want {
			t.Fatalf("rollback to %q: %s (%s), running %s, want %s", c.pin, s.State, s.Reason, s.Running.Version, c.want)
		}
		r.serves(c.want)
		if got := r.current(); got != c.want {
			t.Errorf("current names %s, want %s", got, c.want)
		}
	}
	l.end(t, false)
	r.request(Request{ID: "absent", Action: ActionRollback, Pin: release.Pin{Version: "0.9.0"}})
	if s := r.ends("absent"); s.State != Failed || !strings.Contains(s.Reason, "no 0.9.0 is retained") || !strings.Contains(s.Reason, "1.2.0") {
		t.Errorf("%s: %s; want a refusal that names what is there", s.State, s.Reason)
	}
	r.request(Request{ID: "same", Action: ActionRollback, Pin: release.Pin{Version: "1.1.0"}})
	if s := r.ends("same"); s.State != Committed || !strings.Contains(s.Reason, "nothing to do") {
		t.Errorf("%s: %s", s.State, s.Reason)
	}
}

func TestRollbackThatFailsKeepsTheRetainedRelease(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	r.upgraded("1.1.0")
	r.write("fail-before-commit", "")
	r.request(Request{ID: "back", Action: ActionRollback})
	if s := r.ends("back"); s.State != RolledBack {
		t.Fatalf("%s: %s", s.State, s.Reason)
	}
	r.removes("fail-before-commit")
	r.request(Request{ID: "again", Action: ActionRollback})
	if s := r.ends("again"); s.State != Committed || s.Running.Version != "1.0.0" {
		t.Errorf("%s: %s; the retained release was lost by a failed rollback", s.State, s.Reason)
	}
}

func TestAlteredRetainedReleaseIsNotStarted(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	r.upgraded("1.1.0")
	complete, _, err := (slots{r.env.StateDir}).list()
	if err != nil {
		t.Fatal(err)
	}
	for _, slot := range complete {
		if slot.Version == "1.0.0" {
			// Another file under the same name: the installed one is a link.
			if err := os.Remove(slot.binary()); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(slot.binary(), []byte("#!/bin/sh\n"), 0o700); err != nil { //nolint:gosec // an executable
				t.Fatal(err)
			}
		}
	}
	r.request(Request{ID: "back", Action: ActionRollback})
	if s := r.ends("back"); s.State != Failed || !strings.Contains(s.Reason, "something wrote to it") {
		t.Errorf("%s: %s", s.State, s.Reason)
	}
}

func TestStaleRequestIsRefusedWithWhatWasFound(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	pin := r.upgraded("1.1.0")
	next := r.publish(build{Version: "1.2.0"})
	r.request(Request{ID: "stale", Pin: next, Expect: "1.0.0"})
	if s := r.ends("stale"); s.State != Failed || !strings.Contains(s.Reason, "expects 1.0.0 to run, "+pin.String()+" was found") {
		t.Errorf("%s: %s", s.State, s.Reason)
	}
	r.request(Request{ID: "held", Action: ActionHold, Expect: "1.0.0"})
	r.answers("held", "expects 1.0.0")
	r.request(Request{ID: "fresh", Pin: next, Expect: pin.String()})
	if s := r.ends("fresh"); s.State != Committed {
		t.Errorf("%s: %s", s.State, s.Reason)
	}
}

// answers waits for the answer to a request that is no attempt; its error must
// hold words, or be empty where they are.
func (r *rig) answers(id, words string) Status {
	r.Helper()
	var s Status
	waittest.Nil(r, "request "+id+" is answered", func() error {
		s = Status{}
		if err := r.get("/status", &s); err != nil {
			return err
		}
		if s.Answer == nil || s.Answer.OrderID != id {
			return fmt.Errorf("answer %+v", s.Answer)
		}
		return nil
	})
	if (words == "") != (s.Answer.Error == "") || !strings.Contains(s.Answer.Error, words) {
		r.Errorf("request %s: %q, want %q", id, s.Answer.Error, words)
	}
	return s
}

func TestHeldHostRefusesUpgradesAndRollbacksEvenByForce(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	r.upgraded("1.1.0")
	pin := r.publish(build{Version: "1.2.0"})
	r.request(Request{ID: "hold", Action: ActionHold, By: "ann", Reason: "audit"})
	if s := r.answers("hold", ""); s.Hold == nil || s.Hold.By != "ann" || s.Hold.Reason != "audit" {
		t.Errorf("status tells the hold %+v", s.Hold)
	}
	for _, q := range []Request{{ID: "up", Pin: pin, Force: true}, {ID: "back", Action: ActionRollback, Force: true}} {
		r.request(q)
		if s := r.ends(q.ID); s.State != Failed || !strings.Contains(s.Reason, "held by ann") {
			t.Errorf("%s: %s: %s", q.ID, s.State, s.Reason)
		}
	}
	// From outside, as by a person on the machine.
	if err := ClearHold(r.env.StateDir); err != nil {
		t.Fatal(err)
	}
	r.request(Request{ID: "now", Pin: pin})
	if s := r.ends("now"); s.State != Committed || s.Hold != nil {
		t.Errorf("%s: %s, hold %+v", s.State, s.Reason, s.Hold)
	}
}

func TestHoldThatCannotBeReadStillHolds(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	pin := r.publish(build{Version: "1.1.0"})
	for _, content := range []string{"{", `{"schema":2}`} {
		r.write(holdFile, content)
		r.request(Request{ID: content, Pin: pin})
		if s := r.ends(content); s.State != Failed || !strings.Contains(s.Reason, ErrHeld.Error()) {
			t.Errorf("%s: %s: %s", content, s.State, s.Reason)
		}
	}
}

func TestClearedReleaseMayBeTriedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	pin := r.publish(build{Version: "1.1.0", Fault: "exit"})
	r.ask(pin)
	r.ends("1.1.0")
	r.request(Request{ID: "clear-other", Action: ActionClear, Pin: release.Pin{Version: "1.9.0"}})
	r.answers("clear-other", "1.9.0 is not in quarantine")
	r.request(Request{ID: "clear", Action: ActionClear, Pin: release.Pin{Version: "1.1.0"}})
	if s := r.answers("clear", ""); s.LastFailed != nil {
		t.Errorf("status still tells %+v", s.LastFailed)
	}
	r.askAs(pin, "again")
	if s := r.ends("again"); s.State != RolledBack {
		t.Errorf("%s: %s; want it to be tried and to fail", s.State, s.Reason)
	}
	if cleared, err := ClearQuarantine(r.env.StateDir, release.Pin{}); err != nil || len(cleared) != 1 {
		t.Errorf("cleared %v, %v", cleared, err)
	}
}

func TestBusyHostPutsAnUpgradeOffUntilItIsIdle(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	r.write("busy", "a backup")
	pin := r.publish(build{Version: "1.1.0"})
	r.ask(pin)
	waittest.Nil(r, "the upgrade waits and says why", func() error {
		var s Status
		if err := r.get("/status", &s); err != nil {
			return err
		}
		if s.State != Staged || !strings.Contains(s.Reason, "busy: a backup") || s.Deadline.IsZero() {
			return fmt.Errorf("%s: %q until %s", s.State, s.Reason, s.Deadline)
		}
		return nil
	})
	// The newest wins over one that waits, and force does not wait.
	r.request(Request{ID: "forced", Pin: r.publish(build{Version: "1.2.0"}), Force: true})
	if s := r.ends("forced"); s.State != Committed || s.Running.Version != "1.2.0" {
		t.Errorf("%s: %s", s.State, s.Reason)
	}
	r.request(Request{ID: "idle", Pin: r.publish(build{Version: "1.3.0"})})
	r.removes("busy")
	if s := r.ends("idle"); s.State != Committed || s.Reason != "" {
		t.Errorf("%s: %q", s.State, s.Reason)
	}
}

func TestBusyHostIsUpgradedAfterTheLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	r.write("busy", "for ever")
	r.kill()
	r.env.BusyLimit = 300 * time.Millisecond
	r.start(r.cmd.Path)
	r.upgraded("1.1.0")
}

func TestReleaseThatIsAskedForAgainAndAgainIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, 50*time.Millisecond, nil)
	r.upgraded("1.1.0") // the first start of 1.1.0
	to := map[bool]string{true: "1.0.0", false: "1.1.0"}
	for i := range 8 { // 4 starts of 1.0.0 and 4 more of 1.1.0
		id := fmt.Sprint("loop-", i)
		r.request(Request{ID: id, Action: ActionRollback, Pin: release.Pin{Version: to[i%2 == 0]}})
		if s := r.ends(id); s.State != Committed {
			t.Fatalf("%s: %s: %s", id, s.State, s.Reason)
		}
	}
	r.request(Request{ID: "fifth", Action: ActionRollback, Pin: release.Pin{Version: "1.0.0"}})
	r.ends("fifth")
	r.request(Request{ID: "sixth", Action: ActionRollback, Pin: release.Pin{Version: "1.1.0"}})
	if s := r.ends("sixth"); s.State != Failed || !strings.Contains(s.Reason, "started 5 times within 1h") {
		t.Errorf("%s: %s", s.State, s.Reason)
	}
	r.request(Request{ID: "forced", Action: ActionRollback, Pin: release.Pin{Version: "1.1.0"}, Force: true})
	if s := r.ends("forced"); s.State != Committed {
		t.Errorf("%s: %s", s.State, s.Reason)
	}
}

// TestRevertIsNotKeptByTheBudget: the host would stay on the release that is to be left,
// since others were tried on it shortly before.
func TestRevertIsNotKeptByTheBudget(t *testing.T) {
	t.Parallel()
	r := newRig(t, 50*time.Millisecond, nil)
	leave := r.upgraded("1.1.0")
	spent := starts{}
	for range 5 {
		if err := spent.add(r.env.StateDir, start{At: time.Now(), To: "1.0.0", Binary: r.ends("1.1.0").From.Binary}); err != nil {
			t.Fatal(err)
		}
		spent, _ = readStarts(r.env.StateDir)
	}
	r.request(Request{ID: "rollback", Action: ActionRollback, Pin: release.Pin{Version: "1.0.0"}})
	if s := r.ends("rollback"); s.State != Failed || !strings.Contains(s.Reason, ErrBudget.Error()) {
		t.Fatalf("%s: %s; want the budget to be spent", s.State, s.Reason)
	}
	r.request(Request{ID: "revert", Action: ActionRevert, Leave: leave})
	if s := r.ends("revert"); s.State != Committed || s.Running.Version != "1.0.0" {
		t.Errorf("%s: %s, runs %s", s.State, s.Reason, s.Running.Version)
	}
}

func (r *rig) hooks() string {
	data, err := os.ReadFile(filepath.Join(r.env.StateDir, "hooks"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.Fatal(err)
	}
	return string(data)
}

func TestHooksRunAroundACommit(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	r.upgraded("1.1.0")
	if got := r.hooks(); got != "before-start in 1.0.0: 1.0.0 to 1.1.0\nbefore-commit in 1.0.0: 1.0.0 to 1.1.0\n" {
		t.Errorf("hooks:\n%s", got)
	}
}

func TestHookThatFailsOrHangsRollsBackAndLeavesTheReleaseUntainted(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"fail", "hang"} {
		for _, name := range []string{"before-start", "before-commit"} {
			t.Run(how+"-"+name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, 100*time.Millisecond, nil)
				r.write(how+"-"+name, "")
				pin := r.publish(build{Version: "1.1.0"})
				l := startLoad(r, 4, pace)
				r.ask(pin)
				s := r.ends("1.1.0")
				l.end(t, false)
				if s.State != RolledBack || !strings.Contains(s.Reason, "hook "+strings.ReplaceAll(name, "-", " ")) || s.LastFailed != nil {
					t.Errorf("%s: %s, last failed %+v", s.State, s.Reason, s.LastFailed)
				}
				if got := r.hooks(); !strings.HasSuffix(got, "after-rollback in 1.0.0: 1.0.0 to 1.1.0\n") {
					t.Errorf("the host program was not told to undo:\n%s", got)
				}
				r.removes(how + "-" + name)
				r.askAs(pin, "again")
				if s := r.ends("again"); s.State != Committed {
					t.Errorf("%s: %s", s.State, s.Reason)
				}
			})
		}
	}
}

// The incumbent took a snapshot and died with its successor: the next start
// has to give the data back before the host program opens it.
func TestHookAfterRollbackRunsAtTheNextStartAfterACrash(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, map[string]string{"1.0.0": "launched=kill"})
	pin := r.publish(build{Version: "1.1.0", Fault: "exit"})
	r.ask(pin)
	<-r.done
	r.awaitFree()
	r.env.Failpoints = nil
	r.start(r.cmd.Path)
	if s := r.ends("1.1.0"); s.State != RolledBack {
		t.Errorf("%s: %s", s.State, s.Reason)
	}
	if got := r.hooks(); got != "before-start in 1.0.0: 1.0.0 to 1.1.0\nafter-rollback in 1.0.0: 1.0.0 to 1.1.0\n" {
		t.Errorf("hooks:\n%s", got)
	}
}

func TestFiftyUpgradesInARowLoseNoRequestAndLeaveNothingBehind(t *testing.T) {
	if testing.Short() {
		t.Skip("50 upgrades")
	}
	t.Parallel()
	r := newRig(t, time.Millisecond, nil)
	pins := make([]release.Pin, 50)
	for i := range pins {
		pins[i] = r.publish(build{Version: fmt.Sprintf("1.1.%d", i)})
	}
	l := startLoad(r, 2, pace)
	for _, pin := range pins {
		r.ask(pin)
		if s := r.ends(pin.Version); s.State != Committed {
			t.Fatalf("%s: %s: %s", pin.Version, s.State, s.Reason)
		}
	}
	l.end(t, false)
	if got := r.current(); got != "1.1.49" {
		t.Errorf("current names %s", got)
	}
	waittest.Nil(t, "the last slot that makes room is gone", func() error {
		_, unfinished, err := (slots{r.env.StateDir}).list()
		if err == nil && len(unfinished) > 0 {
			err = fmt.Errorf("unfinished %v", unfinished)
		}
		return err
	})
}

func TestNewestOfTheRequestsThatWaitWins(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2*time.Second, nil)
	pins := []release.Pin{r.publish(build{Version: "1.1.0"}), r.publish(build{Version: "1.2.0"}), r.publish(build{Version: "1.3.0"})}
	r.ask(pins[0])
	r.serves("1.1.0") // on probation still
	r.ask(pins[1])
	r.ask(pins[2])
	if s := r.ends("1.3.0"); s.State != Committed || s.From.Version != "1.1.0" {
		t.Errorf("%s from %s: %s", s.State, s.From.Version, s.Reason)
	}
	if strings.Contains(r.logged(), "to=1.2.0") {
		t.Error("1.2.0 was started although a newer request had come")
	}
}
