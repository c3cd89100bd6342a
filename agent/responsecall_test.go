package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/waittest"
)

// TestProgramsOwnResponse: what an author writes may panic, fail or hang, and
// neither ends the agent nor is forgotten.
func TestProgramsOwnResponse(t *testing.T) {
	undone := 0
	a, err := New(Config{
		ID: "a1", Version: "1.0.0", StateDir: t.TempDir(), Etcd: EtcdConfig{Endpoints: []string{"http://127.0.0.1:1"}},
		Start: func(context.Context, *Agent) error { return nil },
		Responses: []Response{{
			Alert: "memory", Limit: 100, Timeout: time.Minute,
			Do:   func(context.Context, health.Alert) error { return nil },
			Undo: func(context.Context, health.Alert) error { undone++; return nil },
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	re := a.responder.reactions[0]
	re.book = openResponses(a.cfg.StateDir)
	respond := func(f func(ctx context.Context) error) ResponseReport {
		re.Do = func(ctx context.Context, _ health.Alert) error { return f(ctx) }
		re.respond(t.Context(), health.Alert{Name: "memory"})
		return openResponses(a.cfg.StateDir).told()[0] // as the next process reads it
	}
	fails := func(f func(ctx context.Context) error, want string) {
		t.Helper()
		if r := respond(f); r.Outcome != ResponseFailed || !strings.Contains(r.Detail, want) || re.inForce {
			t.Errorf("%+v, in force: %t; want it failed with %q", r, re.inForce, want)
		}
	}
	fails(func(context.Context) error { panic("no such shard") }, "it panicked: no such shard")
	fails(func(context.Context) error { return errors.New("no quorum") }, "no quorum")

	re.Timeout = time.Millisecond
	hangs, returned := make(chan struct{}), make(chan struct{})
	fails(func(context.Context) error { defer close(returned); <-hangs; return nil }, "it has not returned: context deadline exceeded")
	fails(func(context.Context) error { t.Error("it is called beside the call before"); return nil }, "the call before has not returned")
	close(hangs)
	waittest.Next(t, "the call returns", returned)
	waittest.Next(t, "it is known that it has", re.calling)

	re.Timeout = time.Minute
	if r := respond(func(context.Context) error { return nil }); r.Outcome != ResponseDone || !re.inForce {
		t.Errorf("%+v, in force: %t; want it done", r, re.inForce)
	}
	re.undo(t.Context(), health.Alert{Name: "memory"})
	if r := openResponses(a.cfg.StateDir).told()[0]; r.Outcome != ResponseUndone || undone != 1 || re.inForce {
		t.Errorf("%+v, undone %d times, in force: %t", r, undone, re.inForce)
	}
}
