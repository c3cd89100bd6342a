package tracing

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const (
	// Header is the name under which a traceparent travels in gRPC's metadata.
	Header = "traceparent"
	// traceparentBytes is the length of a traceparent of version 00, the one
	// that is written here.
	traceparentBytes = len("00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")
)

// errTraceparent is what Parse returns for anything else.
var errTraceparent = errors.New("want a W3C traceparent of version 00, such as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")

// Parse reads a traceparent of version 00: lower case, nothing before or after
// it, neither id zero. No other is written by this library.
func Parse(text string) (trace.SpanContext, error) {
	if len(text) != traceparentBytes || !strings.HasPrefix(text, "00-") {
		return trace.SpanContext{}, fmt.Errorf("%w, found %.80q", errTraceparent, text)
	}
	c := header(text)
	found := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), &c))
	if !found.IsValid() {
		return trace.SpanContext{}, fmt.Errorf("%w, found %q", errTraceparent, text)
	}
	return found, nil
}

// Clean returns text if it is a traceparent, else "". A trace is no reason to
// refuse what comes with it.
func Clean(text string) string {
	if _, err := Parse(text); err != nil {
		return ""
	}
	return text
}

// Join returns ctx with the span that text names as the one that others begin
// below. Where text is none, ctx comes back as it is.
func Join(ctx context.Context, text string) context.Context {
	if text == "" {
		return ctx
	}
	parent, err := Parse(text)
	if err != nil {
		return ctx
	}
	return trace.ContextWithRemoteSpanContext(ctx, parent)
}

// Text is the traceparent of ctx's span; "" if it has none.
func Text(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	var c header
	propagation.TraceContext{}.Inject(ctx, &c)
	return string(c)
}

// header carries a traceparent and nothing else. The tracestate, which is of
// unknown form and may have half a kilobyte, is not passed on.
type header string

// Get implements propagation.TextMapCarrier.
func (h *header) Get(key string) string {
	if key != Header {
		return ""
	}
	return string(*h)
}

// Set implements propagation.TextMapCarrier.
func (h *header) Set(key, value string) {
	if key == Header {
		*h = header(value)
	}
}

// Keys implements propagation.TextMapCarrier.
func (h *header) Keys() []string { return []string{Header} }
