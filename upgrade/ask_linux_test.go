package upgrade

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/release"
)

// leave asks by the state directory and returns the request's id.
func (r *rig) leave(req Request) string {
	r.Helper()
	r.awaitAdopted()
	asked, err := Ask(r.env.StateDir, req)
	if err != nil {
		r.Fatal(err)
	}
	return asked.ID
}

// awaitAdopted waits until there is a release to boot, which is a little
// after the first start serves.
func (r *rig) awaitAdopted() {
	r.Helper()
	waittest.Nil(r, "the first release is adopted", func() error { _, err := slots{r.env.StateDir}.current(); return err })
}

// followed is how the request called id ended.
func (r *rig) followed(id string) Attempt {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), waittest.Patience)
	defer cancel()
	a, err := Follow(ctx, r.env.StateDir, id, func(Attempt) {})
	if err != nil {
		r.Fatal(err)
	}
	return a
}

// awaitAnswered waits until no request waits.
func (r *rig) awaitAnswered() {
	r.Helper()
	waittest.Nil(r, "the request does not wait any more", func() error {
		_, err := os.Stat(filepath.Join(r.env.StateDir, askedFile))
		if err == nil {
			return errors.New("the file is still there")
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

func TestRequestLeftInTheStateDirectoryNeedsNoNetwork(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	pin := r.publish(build{Version: "1.1.0"})
	var states []string
	id := r.leave(Request{Pin: pin, Expect: "1.0.0", By: "ops"})
	a, err := Follow(t.Context(), r.env.StateDir, id, func(a Attempt) { states = append(states, string(a.State)) })
	if err != nil || a.State != Committed || a.By != "ops" || a.Action != ActionUpgrade || len(states) == 0 || states[len(states)-1] != string(Committed) {
		t.Fatalf("%+v, %v; told %v", a, err, states)
	}
	if err := os.RemoveAll(r.env.Repository); err != nil {
		t.Fatal(err)
	}
	r.serves("1.1.0")
	if a := r.followed(r.leave(Request{Action: ActionRollback, Expect: "1.1.0"})); a.State != Committed || a.To.Version != "1.0.0" || a.Earlier[0] != id {
		t.Fatalf("rollback without repository: %+v", a)
	}
	r.serves("1.0.0")
	if got := r.current(); got != "1.0.0" {
		t.Errorf("current names %s", got)
	}
	r.awaitAnswered()
	if a := r.followed(r.leave(Request{Action: ActionRollback, Expect: "1.1.0"})); a.State != Failed || !strings.Contains(a.Reason, "expects 1.1.0 to run, 1.0.0 was found") {
		t.Errorf("a stale request: %+v", a)
	}
}

func TestKillAfterARequestWasTakenUpDoesNotPerformItTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, map[string]string{"1.0.0": "request-begun=kill"})
	id := r.leave(Request{Pin: r.publish(build{Version: "1.1.0"})})
	<-r.done
	if waits, err := readAsked(r.env.StateDir); err != nil || waits == nil || waits.ID != id {
		t.Fatalf("the kill came too late: %+v, %v", waits, err)
	}
	r.env.Failpoints = nil
	r.start(makeBinary(t, build{Version: "1.0.0"}))
	if a := r.followed(id); a.State != Failed || !strings.Contains(a.Reason, "interrupted") {
		t.Errorf("%+v", a)
	}
	r.awaitAnswered()
	// The next is performed, so that the one before had its chance to be.
	if a := r.followed(r.leave(Request{Action: ActionRollback})); a.State != Failed || a.Earlier[0] != id {
		t.Errorf("%+v", a)
	}
	if record, err := readStarts(r.env.StateDir); err != nil || len(record.Starts) != 0 {
		t.Errorf("the request was performed again: %+v, %v", record, err)
	}
}

func TestRequestThatWaitsOutlivesTheAgent(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	pin := r.publish(build{Version: "1.1.0"})
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-r.done
	id := r.leave(Request{Pin: pin})
	r.start(makeBinary(t, build{Version: "1.0.0"}))
	if a := r.followed(id); a.State != Committed {
		t.Errorf("%+v", a)
	}
	r.serves("1.1.0")
}

func TestNewestRequestLeftInTheStateDirectoryWins(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	r.awaitAdopted()
	// Stopped, so that both requests wait.
	if err := syscall.Kill(r.cmd.Process.Pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	older := r.leave(Request{Pin: r.publish(build{Version: "1.1.0"})})
	newer := r.leave(Request{Pin: r.publish(build{Version: "1.2.0"})})
	if err := syscall.Kill(r.cmd.Process.Pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if a := r.followed(newer); a.State != Committed || a.To.Version != "1.2.0" || a.From.Version != "1.0.0" {
		t.Errorf("%+v", a)
	}
	if _, err := Follow(t.Context(), r.env.StateDir, older, func(Attempt) {}); !errors.Is(err, release.ErrNotFound) {
		t.Errorf("the one that was replaced: %v", err)
	}
}

func TestRequestThatMakesNoSenseDoesNotBlockTheNext(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	for name, content := range map[string]string{
		"no JSON":      "{",
		"newer schema": `{"schema":2,"id":"x","action":"upgrade"}`,
		"no id":        `{"schema":1,"action":"rollback"}`,
		"no attempt":   `{"schema":1,"id":"x","action":"hold"}`,
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(r.env.StateDir, askedFile), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			r.awaitAnswered()
		})
	}
	if a := r.followed(r.leave(Request{Pin: r.publish(build{Version: "1.1.0"})})); a.State != Committed {
		t.Errorf("%+v", a)
	}
}

func TestWhatCannotBeAskedByAFileIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	state := slots{t.TempDir()}
	if err := state.prove(makeSlot(t, state, "1.0.0"), time.Now(), 0); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir  string
		r    Request
		says string
	}{
		"not a state directory": {empty, Request{Action: ActionRollback}, "no agent has run"},
		"not an attempt":        {state.stateDir, Request{Action: ActionHold}, "needs no agent"},
		"no digest":             {state.stateDir, Request{Pin: release.Pin{Version: "1.0.0"}}, "digest"},
		"floating tag":          {state.stateDir, Request{Action: ActionRollback, Pin: release.Pin{Version: "latest"}}, "latest"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Ask(c.dir, c.r); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("want %q in the error, found %v", c.says, err)
			}
		})
	}
	if os.Geteuid() != 0 {
		t.Skip("a directory of another user takes root")
	}
	if err := os.Chown(state.stateDir, 4711, -1); err != nil {
		t.Fatal(err)
	}
	_, asked := Ask(state.stateDir, Request{Action: ActionRollback})
	_, cleared := ClearQuarantine(state.stateDir, release.Pin{})
	_, rolled := RollBack(state.stateDir, Request{})
	for what, err := range map[string]error{"ask": asked, "hold": SetHold(state.stateDir, Hold{}), "clear": cleared, "roll back": rolled} {
		if err == nil || !strings.Contains(err.Error(), "4711") {
			t.Errorf("%s as another user than the agent's: %v", what, err)
		}
	}
}

func TestWhatOperatorsChangeShowsInTheStatusOfTheRunningAgent(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	shows := func(what string, ok func(Status) bool) {
		t.Helper()
		waittest.Until(t, "the status shows "+what, func() bool {
			var s Status
			return r.get("/status", &s) == nil && ok(s)
		})
	}
	if err := SetHold(r.env.StateDir, Hold{By: "ops", Reason: "audit"}); err != nil {
		t.Fatal(err)
	}
	shows("the hold", func(s Status) bool { return s.Hold != nil && s.Hold.Reason == "audit" })
	if err := ClearHold(r.env.StateDir); err != nil {
		t.Fatal(err)
	}
	shows("no hold", func(s Status) bool { return s.Hold == nil })
	r.ask(r.publish(build{Version: "1.1.0", Fault: "exit"}))
	r.ends("1.1.0")
	shows("the quarantine", func(s Status) bool { return s.LastFailed != nil && len(s.Quarantine) == 1 })
	if _, err := ClearQuarantine(r.env.StateDir, release.Pin{Version: "1.1.0"}); err != nil {
		t.Fatal(err)
	}
	shows("an empty quarantine", func(s Status) bool { return s.LastFailed == nil && len(s.Quarantine) == 0 })
	r.ask(r.publish(build{Version: "1.2.0"}))
	r.ends("1.2.0")
	shows("what a rollback can go to", func(s Status) bool { return len(s.Retained) == 1 && s.Retained[0].Version == "1.0.0" })
}
