package upgrade

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/release"
)

// longProbation is a probation that no test waits for.
const longProbation = 10 * time.Minute

// onTrial has pin on a long probation, and returns the id of the request.
func (r *rig) onTrial(pin release.Pin) string {
	r.Helper()
	id := r.leave(Request{Pin: pin, Probation: longProbation})
	waittest.Nil(r, pin.Version+" is on probation", func() error {
		a, err := readJournal(filepath.Join(r.env.StateDir, journalFile))
		if err == nil && (a.OrderID != id || a.State != Probation) {
			err = fmt.Errorf("%s is %s: %s", a.OrderID, a.State, a.Reason)
		}
		if err == nil && (a.Probation != longProbation || time.Until(a.Deadline) < longProbation-time.Minute) {
			r.Fatalf("a probation of %v was asked for, the journal has %v, until %v", longProbation, a.Probation, a.Deadline)
		}
		return err
	})
	return id
}

// insider is a connection that the incumbent goes on answering in a probation.
type insider struct {
	*rig
	http.Client
	base string
}

func (r *rig) insider() *insider {
	r.Helper()
	i := &insider{rig: r, Client: http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxConnsPerHost: 1}}, base: r.url("")}
	r.Cleanup(i.CloseIdleConnections)
	i.post("/echo", nil)
	return i
}

func (i *insider) post(path string, body any) {
	i.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		i.Fatal(err)
	}
	res, err := i.Client.Post(i.base+path, "application/json", bytes.NewReader(data))
	if err != nil {
		i.Fatal(err)
	}
	// Read to its end, or the connection is not used again.
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		i.Fatal(err)
	}
	_ = res.Body.Close()
}

// TestRevertInAProbationIsWarmBlamesNobodyAndLosesNoRequest is what a rollout that
// goes back relies on: the process before still has everything.
func TestRevertInAProbationIsWarmBlamesNobodyAndLosesNoRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	first := r.serves("1.0.0")
	pin := r.publish(build{Version: "1.1.0"})
	l := startLoad(r, 4, pace)
	forward := r.onTrial(pin)
	r.serves("1.1.0")
	back := r.leave(Request{Action: ActionRevert, Leave: pin, By: "fleet", Reason: "a canary failed"})
	a := r.followed(back)
	if a.State != Committed || a.To.Version != "1.0.0" || !strings.Contains(a.Reason, "nothing to do") || a.Earlier[0] != forward {
		t.Errorf("the revert: %s to %s: %s, after %q", a.State, a.To.Version, a.Reason, a.Earlier)
	}
	if w := r.serves("1.0.0"); w != first {
		t.Errorf("%+v serves, it was %+v: the revert was not warm", w, first)
	}
	l.end(t, false)
	if q := r.quarantined(); len(q) > 0 {
		t.Errorf("a release that was taken back is quarantined: %+v", q)
	}
	if log := r.logged(); !strings.Contains(log, "revert was asked for in its probation by fleet: a canary failed") {
		t.Error("the log does not tell who wanted it gone, and why")
	}
	// It is nobody's fault, so it may come again; and where it does not run there
	// is nothing to do.
	again := r.leave(Request{Pin: pin, Force: true})
	if a := r.followed(again); a.State != Committed {
		t.Errorf("the same once more: %s: %s", a.State, a.Reason)
	}
	nowhere := r.leave(Request{Action: ActionRevert, Leave: release.Pin{Version: "1.3.0"}})
	if a := r.followed(nowhere); a.State != Committed || !strings.Contains(a.Reason, "nothing to do") || r.current() != "1.1.0" {
		t.Errorf("the revert of what does not run: %s: %s; current is %s", a.State, a.Reason, r.current())
	}
	// The first release was installed by hand, so that its digest is unknown here.
	meant := release.Pin{Version: "1.0.0", Digest: "sha256:" + strings.Repeat("ef", 32)}
	if a := r.followed(r.leave(Request{Action: ActionRollback, Pin: meant})); a.State != Failed || !strings.Contains(a.Reason, "no 1.0.0 is retained") {
		t.Errorf("a rollback to another 1.0.0: %s: %s", a.State, a.Reason)
	}
	retained := r.leave(Request{Action: ActionRevert, Leave: pin, Pin: meant})
	if a := r.followed(retained); a.State != Committed || a.To.Version != "1.0.0" {
		t.Errorf("the revert of what was committed: %s to %s: %s", a.State, a.To.Version, a.Reason)
	}
	r.serves("1.0.0")
}

// A rollback that ends a probation is done with that. What is left of it after a
// crash must not take the host one release further back.
func TestRollbackThatEndedAProbationGoesBackOnceWhateverIsKilled(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"rolling-back", "rolled-back", ""} {
		t.Run("killed at "+step, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 100*time.Millisecond, nil)
			if step != "" {
				r.env.Failpoints = map[string]string{"1.1.0": step + "=kill"}
				restart(t, r, r.cmd.Path)
			}
			r.upgraded("1.1.0") // and 1.0.0 is retained
			r.onTrial(r.publish(build{Version: "1.2.0"}))
			id := r.leave(Request{Action: ActionRollback, Expect: "1.1.0"})
			if step != "" {
				waittest.Until(t, "nobody is left", func() bool { return !isLocked(r.env.StateDir) })
				r.env.Failpoints = nil
				r.start(r.cmd.Path)
			}
			if a := r.followed(id); a.State != Committed || a.To.Version != "1.1.0" || !strings.Contains(a.Reason, "nothing to do") {
				t.Errorf("the rollback: %s to %s: %s", a.State, a.To.Version, a.Reason)
			}
			if got := r.current(); got != "1.1.0" {
				t.Errorf("current names %s", got)
			}
			r.serves("1.1.0")
		})
	}
}

// Who may not have the host go back may not keep it from going forward either:
// the probation goes on, and the request has its answer after it.
func TestProbationIsNotEndedByWhoMayNotRollBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rule  RemoteRollback
		asked Request
		says  string
		hold  bool
	}{
		"from outside where that is forbidden": {RemoteRollbackNever, Request{ID: "back", Action: ActionRollback}, "--remote-rollback never", false},
		"to a release that was withdrawn":      {"", Request{ID: "back", Action: ActionRollback}, "1.0.0 was withdrawn by its publisher (loses records)", false},
		"of another program":                   {"", Request{ID: "back", Action: ActionRevert, Leave: release.Pin{Version: "1.1.0"}, Program: "other"}, "of \"other\"", false},
		"while the host is held":               {"", Request{ID: "back", Action: ActionRevert, Leave: release.Pin{Version: "1.1.0"}}, "held", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pauses := t.TempDir()
			r := prepareRig(t, 500*time.Millisecond, map[string]string{"1.0.0": "probation=pause:" + pauses})
			r.env.RemoteRollback = c.rule
			if strings.Contains(name, "withdrawn") {
				r.publish(build{Version: "1.0.0"})
				r.yank("1.0.0", "loses records")
			}
			r.first(build{Version: "1.0.0"})
			inside := r.insider()
			r.ask(r.publish(build{Version: "1.1.0"}))
			paused := filepath.Join(pauses, "probation")
			waittest.Nil(t, "1.1.0 is on probation", func() error { _, err := os.Stat(paused); return err })
			if c.hold {
				if err := SetHold(r.env.StateDir, Hold{By: "ops"}); err != nil {
					t.Fatal(err)
				}
			}
			inside.post("/request?remote", c.asked)
			if err := os.Remove(paused); err != nil {
				t.Fatal(err)
			}
			waittest.Until(t, "the incumbent says why it goes on", func() bool { return strings.Contains(r.logged(), "request ends no probation") })
			inside.CloseIdleConnections()
			if s := r.ends("back"); s.State != Failed || !strings.Contains(s.Reason, c.says) || s.Running.Version != "1.1.0" {
				t.Errorf("%s: %s; %s runs", s.State, s.Reason, s.Running.Version)
			}
		})
	}
}

// A longer probation is for the warm way back. Without the incumbent there is
// none, so that the successor commits after the host's own probation.
func TestSuccessorThatIsLeftAloneCommitsAfterTheHostsOwnProbation(t *testing.T) {
	t.Parallel()
	r := newRig(t, 300*time.Millisecond, nil)
	incumbent := r.serves("1.0.0").PID
	id := r.onTrial(r.publish(build{Version: "1.1.0"}))
	if err := syscall.Kill(incumbent, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if a := r.followed(id); a.State != Committed || !strings.Contains(a.Reason, "alone") {
		t.Errorf("%s: %s", a.State, a.Reason)
	}
	r.serves("1.1.0")
}

// A long probation must not keep operators from their hosts: it is long for the
// warm way back alone.
func TestLongProbationKeepsNobodyFromTheHost(t *testing.T) {
	t.Parallel()
	r := newRig(t, 300*time.Millisecond, nil)
	r.awaitAdopted()
	inside := r.insider()
	one := r.onTrial(r.publish(build{Version: "1.1.0"}))
	inside.post("/request", Request{ID: "hold", Action: ActionHold, By: "ops"})
	waittest.Nil(t, "the host is held", func() error {
		if h, err := ReadHold(r.env.StateDir); err != nil || h == nil || h.By != "ops" {
			return fmt.Errorf("%+v, %w", h, err)
		}
		return nil
	})
	if a, err := readJournal(filepath.Join(r.env.StateDir, journalFile)); err != nil || a.OrderID != one || a.State != Probation {
		t.Errorf("a hold has ended the probation: %s: %s, %v", a.State, a.Reason, err)
	}
	if err := ClearHold(r.env.StateDir); err != nil {
		t.Fatal(err)
	}
	inside.CloseIdleConnections()
	a := r.followed(r.leave(Request{Pin: r.publish(build{Version: "1.2.0"})}))
	if a.State != Committed || a.From.Version != "1.1.0" {
		t.Errorf("%s from %s: %s", a.State, a.From.Version, a.Reason)
	}
}

func TestOnlyWhatLeadsFromTheSuccessorToTheIncumbentEndsAProbation(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	mine, its := Ref{Version: "1.0.0", Manifest: digest}, Ref{Version: "1.1.0", Manifest: "sha256:" + strings.Repeat("cd", 32)}
	trial := &trial{Upgrader: &Upgrader{running: Slot{Ref: mine}}, slot: Slot{Ref: its}}
	pin := release.Pin{Version: its.Version, Digest: its.Manifest}
	for _, c := range []struct {
		request Request
		ends    bool
	}{
		{Request{ID: "x", Action: ActionRevert, Leave: pin}, true},
		{Request{ID: "x", Action: ActionRevert, Leave: release.Pin{Version: "1.1.0"}}, true},
		{Request{Action: ActionRevert, Leave: pin}, true},
		{Request{ID: "x", Action: ActionRevert, Leave: release.Pin{Version: "1.1.0", Digest: digest}}, false},
		{Request{ID: "x", Action: ActionRevert, Leave: release.Pin{Version: "1.0.0"}}, false},
		{Request{ID: "x", Action: ActionRollback}, true},
		{Request{Action: ActionRollback}, false}, // nobody could tell afterwards that it is done
		{Request{Action: ActionRollback, Pin: release.Pin{Version: "1.0.0"}}, true},
		{Request{ID: "x", Action: ActionRollback, Pin: release.Pin{Version: "1.0.0", Digest: digest}}, true},
		{Request{ID: "x", Action: ActionRollback, Pin: release.Pin{Version: "0.9.0"}}, false},
		{Request{ID: "x", Action: ActionUpgrade, Pin: release.Pin{Version: "1.0.0", Digest: digest}}, false},
		{Request{ID: "x", Action: ActionStage, Pin: pin}, false},
	} {
		if got := trial.isAbout(c.request); got != c.ends {
			t.Errorf("%s %s, leaving %q: %v", c.request.Action, c.request.Pin, c.request.Leave, got)
		}
	}
	ids := Attempt{OrderID: "forward", RecalledBy: "back", Earlier: []string{"old"}}
	if got := ids.ended("back"); !slices.Equal(got, []string{"forward", "old"}) {
		t.Errorf("before its own answer: %q", got)
	}
	if got := ids.ended("other"); !slices.Equal(got, []string{"back", "forward", "old"}) {
		t.Errorf("another would have what is done done again: %q", got)
	}
}
