package upgrade

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/upgrade/release"
)

// newRigAt110 is a rig that was upgraded from 1.0.0 to 1.1.0.
func newRigAt110(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, 100*time.Millisecond, nil)
	r.ask(r.publish(build{Version: "1.1.0"}))
	if s := r.ends("1.1.0"); s.State != Committed {
		t.Fatalf("%+v", s.Attempt)
	}
	r.serves("1.1.0")
	return r
}

func TestRollbackWhileNoAgentRunsIsBootedNext(t *testing.T) {
	t.Parallel()
	r := newRigAt110(t)
	cur, err := slots{r.env.StateDir}.current()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := RollBack(r.env.StateDir, Request{}); !errors.Is(err, ErrLocked) {
		t.Fatalf("under a running agent: %v", err)
	}
	r.stop()
	r.awaitFree()
	for name, c := range map[string]struct {
		r    Request
		says string
	}{
		"stale":        {Request{Expect: "1.0.0"}, "expects 1.0.0 to run, 1.1.0@sha256:"},
		"not retained": {Request{Pin: release.Pin{Version: "0.9.0"}}, "1.0.0 is"},
	} {
		if _, err := RollBack(r.env.StateDir, c.r); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// As a running agent answers it, and whatever was expected.
	same, err := RollBack(r.env.StateDir, Request{Pin: release.Pin{Version: "1.1.0"}, Expect: "1.0.0"})
	if err != nil || same.State != Committed || same.To.Version != "1.1.0" || !strings.Contains(same.Reason, "nothing to do") || r.current() != "1.1.0" {
		t.Errorf("to what is current: %+v, %v; current %s", same, err, r.current())
	}
	if err := SetHold(r.env.StateDir, Hold{}); err != nil {
		t.Fatal(err)
	}
	if _, err := RollBack(r.env.StateDir, Request{}); !errors.Is(err, ErrHeld) {
		t.Errorf("held: %v", err)
	}
	if err := ClearHold(r.env.StateDir); err != nil {
		t.Fatal(err)
	}
	a, err := RollBack(r.env.StateDir, Request{Expect: "1.1.0", By: "ops"})
	if err != nil || a.State != RolledBack || a.From.Version != "1.0.0" || a.By != "ops" || r.current() != "1.0.0" {
		t.Fatalf("%+v, %v; current %s", a, err, r.current())
	}
	r.start(filepath.Join(cur.dir, binaryName))
	if w := r.serves("1.0.0"); w.PID != r.cmd.Process.Pid {
		t.Errorf("%+v, started pid %d", w, r.cmd.Process.Pid)
	}
	// The way forward is a rollback, too: 1.1.0 has been kept.
	if a := r.followed(r.leave(Request{Action: ActionRollback})); a.State != Committed || a.To.Version != "1.1.0" {
		t.Errorf("%+v", a)
	}
}

// It arms the failpoint in this process, so no other test may roll back here.
func TestRollbackThatWasCutShortIsFinishedByTheNextStart(t *testing.T) {
	r := newRigAt110(t)
	r.stop()
	r.awaitFree()
	if err := failpoint.Arm("offline-begun=error"); err != nil {
		t.Fatal(err)
	}
	_, err := RollBack(r.env.StateDir, Request{ID: "x"})
	if armErr := failpoint.Arm(""); armErr != nil || err == nil || r.current() != "1.1.0" {
		t.Fatalf("%v, %v; current %s", err, armErr, r.current())
	}
	if _, err := RollBack(r.env.StateDir, Request{}); err == nil || !strings.Contains(err.Error(), "rolling_back that was interrupted: start the agent") {
		t.Errorf("on top of one that was cut short: %v", err)
	}
	r.start(makeBinary(t, build{Version: "1.0.0"}))
	r.serves("1.0.0")
	if s := r.ends("x"); s.State != RolledBack || !strings.Contains(s.Reason, "finished at start") || r.current() != "1.0.0" {
		t.Errorf("%+v, current %s", s.Attempt, r.current())
	}
}
