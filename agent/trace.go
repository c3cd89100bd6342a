package agent

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/perennial-go/perennial/internal/tracing"
	"github.com/perennial-go/perennial/upgrade"
)

// scope names what the spans of this package come from.
const scope = "github.com/perennial-go/perennial/agent"

// traced returns the author's provider, whose spans all tell the agent and its
// version, as the lines of its log do; nil for none.
func traced(cfg Config) trace.TracerProvider {
	return tracing.WithAttributes(cfg.TracerProvider, attribute.String(tracing.Agent, cfg.ID), attribute.String(tracing.Version, cfg.Version))
}

// drain drains the servers, under a span where an upgrade is the cause.
func (r *running) drain(ctx context.Context, d upgrade.Drain, cause error) error {
	var span tracing.Span
	if errors.Is(cause, ErrSuperseded) || errors.Is(cause, upgrade.ErrAborted) {
		_, span = r.tracer.Start(r.upgrader.Trace(ctx), upgrade.SpanDrain, trace.SpanKindInternal)
	}
	err := r.Agent.host.drain(ctx, d)
	span.End(err)
	return err
}
