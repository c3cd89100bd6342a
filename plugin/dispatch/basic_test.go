package dispatch_test

import (
	"context"
	"testing"

	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

func TestTaskIsRunOnceAndItsResultsAreKept(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	a := r.agent("a", newHost(map[string]work{"do": func(_ context.Context, task plugin.Task, deliver func(plugin.Result) error) error {
		return deliver(plugin.Result{Payload: append([]byte("did "), task.Payload...)})
	}}))
	id := r.submit(dispatch.Task{Payload: []byte("it")})
	info := r.becomes(id, dispatch.Succeeded)
	if info.Agent != "a" || info.Attempt != 1 || info.Results != 1 || info.Finished.IsZero() || info.Expires.Sub(info.Finished) != dispatch.DefaultTTL {
		t.Errorf("got %+v", info)
	}
	results, err := r.queue.Results(t.Context(), id, 0, 0)
	if err != nil || len(results) != 1 || string(results[0].Payload) != "did it" {
		t.Errorf("got %+v, %v", results, err)
	}
	if n := a.host.runs(id); n != 1 {
		t.Errorf("it ran %d times", n)
	}
}
