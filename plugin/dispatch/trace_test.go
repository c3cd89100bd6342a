package dispatch_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/perennial-go/perennial/internal/tracetest"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

func TestTraceOfATaskGoesFromItsSubmitThroughEachRun(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	var runs atomic.Int64
	below := make(chan trace.SpanContext, 2)
	r.agent("a", newHost(map[string]work{"do": func(ctx context.Context, _ plugin.Task, _ func(plugin.Result) error) error {
		below <- trace.SpanContextFromContext(ctx)
		if runs.Add(1) == 1 {
			return errors.New("not this time")
		}
		return nil
	}}))
	id := r.submit(dispatch.Task{Retry: dispatch.Retry{MinBackoff: 1, MaxBackoff: 1}})
	r.becomes(id, dispatch.Succeeded)
	waittest.Until(t, "the second run's span has ended", func() bool { return len(r.spans.Spans(dispatch.SpanRun)) == 2 && len(r.spans.Open()) == 0 })
	submit, assign, run := r.spans.Spans(dispatch.SpanSubmit), r.spans.Spans(dispatch.SpanAssign), r.spans.Spans(dispatch.SpanRun)
	if len(submit) != 1 || submit[0].Attributes["task"] != id || submit[0].Parent.IsValid() {
		t.Fatalf("submit: %+v", submit)
	}
	// One that was refused is written again, so that there may be more.
	assign = slices.DeleteFunc(assign, func(s tracetest.Record) bool { return s.Status == codes.Error })
	if len(assign) != 2 {
		t.Fatalf("assigned %d times", len(assign))
	}
	for i := range run {
		if assign[i].Parent.SpanID() != submit[0].Context.SpanID() || assign[i].Attributes["to"] != "a" {
			t.Errorf("assignment %d: %+v", i, assign[i])
		}
		if run[i].Parent.SpanID() != assign[i].Context.SpanID() || run[i].Context.TraceID() != submit[0].Context.TraceID() {
			t.Errorf("run %d is not below its assignment: %+v", i, run[i])
		}
		if got := <-below; got.SpanID() != run[i].Context.SpanID() {
			t.Errorf("call %d of the plugin is below %v, not its run", i, got)
		}
	}
	if run[0].Status != codes.Error || run[0].Attributes["ended"] != "failed" || run[1].Status != codes.Unset || run[1].Attributes["ended"] != "succeeded" {
		t.Errorf("the runs ended as %+v", run)
	}
}

// A submitter that exports nothing itself may well be part of a trace.
func TestTraceOfWhoeverSubmitsIsGoneOnWithWithoutAProvider(t *testing.T) {
	r := newRig(t)
	queue, err := dispatch.NewQueue(dispatch.QueueConfig{Client: r.client})
	if err != nil {
		t.Fatal(err)
	}
	r.dispatcher("d", func(c *dispatch.DispatcherConfig) { c.TracerProvider = nil })
	r.agent("a", newHost(map[string]work{"do": nothing}))
	r.agent("b", newHost(map[string]work{"do": nothing}))
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
	var done dispatch.Submitted
	waittest.Until(t, "both agents can take it", func() bool {
		workers, err := queue.Workers(t.Context())
		return err == nil && len(workers) == 2
	})
	if done, err = queue.Submit(trace.ContextWithSpanContext(t.Context(), parent), dispatch.Task{Capability: "do", Policy: dispatch.All}); err != nil || done.Runs != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	r.becomes(done.ID, dispatch.Succeeded)
	waittest.Until(t, "both runs' spans are below the submitter's", func() bool {
		runs := r.spans.Spans(dispatch.SpanRun)
		return len(runs) == 2 && runs[0].Parent.SpanID() == parent.SpanID() && runs[1].Parent.TraceID() == parent.TraceID()
	})
}
