package tracing

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
)

// WithAttributes returns a provider whose spans all begin with attributes, as a
// logger has that was made With them; nil for nil.
func WithAttributes(of trace.TracerProvider, attributes ...attribute.KeyValue) trace.TracerProvider {
	if of == nil {
		return nil
	}
	return &provider{of: of, option: trace.WithAttributes(attributes...)}
}

type provider struct {
	embedded.TracerProvider

	of     trace.TracerProvider
	option trace.SpanStartOption
}

// Tracer implements trace.TracerProvider.
func (p *provider) Tracer(name string, options ...trace.TracerOption) trace.Tracer {
	return &tracer{of: p.of.Tracer(name, options...), option: p.option}
}

type tracer struct {
	embedded.Tracer

	of     trace.Tracer
	option trace.SpanStartOption
}

// Start implements trace.Tracer.
func (t *tracer) Start(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	return t.of.Start(ctx, name, append([]trace.SpanStartOption{t.option}, options...)...)
}
