package plugin

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	"github.com/perennial-go/perennial/internal/tracing"
)

// SpanExecute covers one call of a plugin by Manager.Execute. What the plugin
// itself does is below it: the call carries its trace context.
const SpanExecute = "perennial.plugin.execute"

// scope names what the spans of this package come from.
const scope = "github.com/perennial-go/perennial/plugin"

// trace begins the span of a call, and has the call carry its context.
func (m *Manager) trace(ctx context.Context, name string, task Task) (context.Context, tracing.Span) {
	ctx, span := m.tracer.Start(ctx, SpanExecute, trace.SpanKindClient)
	if span.Recording() {
		span.Set(attribute.String(tracing.Plugin, name), attribute.String(tracing.Task, task.ID), attribute.String(tracing.Capability, task.Capability))
	}
	return ctx, span
}

// carry has a call to a plugin's process carry ctx's trace.
func carry(ctx context.Context) context.Context {
	text := tracing.Text(ctx)
	if text == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, tracing.Header, text)
}
