package dispatch

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/perennial-go/perennial/internal/tracing"
)

// The spans of a task, each below the one before. A task that runs more than
// once has one of SpanAssign and of SpanRun for each time.
const (
	// SpanSubmit covers Submit: until the task is durable.
	SpanSubmit = "perennial.task.submit"
	// SpanAssign covers the writing of an assignment.
	SpanAssign = "perennial.task.assign"
	// SpanRun covers a run in its agent, from the claim until its end is written.
	SpanRun = "perennial.task.run"
)

// scope names what the spans of this package come from.
const scope = "github.com/perennial-go/perennial/plugin/dispatch"

// tracedTask is what the spans of a task tell of it.
func tracedTask(id, plugin, capability string) []attribute.KeyValue {
	list := []attribute.KeyValue{attribute.String(tracing.Task, id)}
	if plugin != "" {
		list = append(list, attribute.String(tracing.Plugin, plugin))
	}
	if capability != "" {
		list = append(list, attribute.String(tracing.Capability, capability))
	}
	return list
}

// assigning begins the span of an assignment, and names it for the agent.
func (t *term) assigning(s *spec, next *record) (span tracing.Span, traceparent string) {
	ctx, span := t.tracer.Start(tracing.Join(context.Background(), s.Traceparent), SpanAssign, trace.SpanKindProducer)
	if span.Recording() {
		span.Set(append(tracedTask(s.ID, s.Plugin, s.Capability),
			attribute.String(tracing.To, next.Agent), attribute.Int(tracing.Run, next.Attempt))...)
	}
	return span, tracing.Text(ctx)
}

// trace begins the span of a run, whose plugin works below it.
func (r *run) trace() tracing.Span {
	a := &r.assignment
	ctx, span := r.worker.tracer.Start(tracing.Join(r.ctx, a.Traceparent), SpanRun, trace.SpanKindConsumer)
	if r.ctx = ctx; span.Recording() {
		span.Set(append(tracedTask(r.id, a.Plugin, a.Capability), attribute.Int(tracing.Run, a.Attempt))...)
	}
	return span
}

// endTrace ends it; how the run ended is told of one that has.
func (r *run) endTrace(span tracing.Span, ended string, why error) {
	if span.Recording() && ended != "" {
		span.Set(attribute.String(tracing.Ended, ended))
	}
	span.End(why)
}
