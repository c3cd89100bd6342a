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

// traceDrain begins the span of a drain that an upgrade is the cause of; that
// of others is not traced.
func (r *running) traceDrain(cause error) tracing.Span {
	if !errors.Is(cause, ErrSuperseded) && !errors.Is(cause, upgrade.ErrAborted) {
		return tracing.Span{}
	}
	_, span := r.tracer.Start(r.upgrader.Trace(context.Background()), upgrade.SpanDrain, trace.SpanKindInternal)
	return span
}
