// Package tracing is what the library's packages need of OpenTelemetry's API:
// spans that cost nothing where nobody listens, and the W3C traceparent by
// which a trace goes on in another process. It needs go.opentelemetry.io/otel's
// packages trace and propagation, and neither the global provider nor an SDK:
// those are the author's.
package tracing

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Tracer begins spans. The zero value, which is that of a host program without
// a TracerProvider, begins none and allocates nothing.
type Tracer struct{ tracer trace.Tracer }

// New returns the tracer of a package, which scope is the import path of.
// provider may be nil.
func New(provider trace.TracerProvider, scope string) Tracer {
	if provider == nil {
		return Tracer{}
	}
	return Tracer{provider.Tracer(scope)}
}

// Start begins a span below the one of ctx, in its process or another. Without
// a provider ctx comes back as it is, so that a trace which passes through is
// passed on.
func (t Tracer) Start(ctx context.Context, name string, kind trace.SpanKind) (context.Context, Span) {
	if t.tracer == nil {
		return ctx, Span{}
	}
	return t.start(ctx, name, trace.WithSpanKind(kind))
}

// StartAt is Start for what began at at, with links to the spans of other
// traces; those that are not valid are left out.
func (t Tracer) StartAt(ctx context.Context, name string, at time.Time, links ...trace.SpanContext) (context.Context, Span) {
	if t.tracer == nil {
		return ctx, Span{}
	}
	options := []trace.SpanStartOption{trace.WithTimestamp(at)}
	for _, l := range links {
		if l.IsValid() {
			options = append(options, trace.WithLinks(trace.Link{SpanContext: l}))
		}
	}
	return t.start(ctx, name, options...)
}

// start is on its own for its options to be made only where they are used.
func (t Tracer) start(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, Span) {
	ctx, span := t.tracer.Start(ctx, name, options...)
	return ctx, Span{span}
}

// Span is one step of a trace. The zero value records nothing.
type Span struct{ span trace.Span }

// Recording reports whether anybody will see what is set. What a hot path sets
// it sets under this condition: the arguments alone would be allocated.
func (s Span) Recording() bool { return s.span != nil && s.span.IsRecording() }

// Set sets attributes.
func (s Span) Set(attributes ...attribute.KeyValue) {
	if s.span != nil {
		s.span.SetAttributes(attributes...)
	}
}

// Event notes that something happened just now.
func (s Span) Event(what string) {
	if s.span != nil {
		s.span.AddEvent(what)
	}
}

// In returns ctx with s as the span that others begin below.
func (s Span) In(ctx context.Context) context.Context {
	if s.span == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, s.span)
}

// End ends the span, with an error status where err is not nil. A second End
// does nothing.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	if err != nil && s.span.IsRecording() {
		text := clip(err.Error())
		if len(text) != len(err.Error()) {
			err = errors.New(text)
		}
		s.span.RecordError(err)
		s.span.SetStatus(codes.Error, text)
	}
	s.span.End()
}

// errorBytes bounds the text of an error in a span: a plugin or a successor may
// have written it.
const errorBytes = 2 << 10

func clip(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= errorBytes {
		return text
	}
	cut := errorBytes - len("…")
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
