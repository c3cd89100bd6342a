package tracing

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/perennial-go/perennial/internal/tracetest"
)

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestWithoutProviderNothingIsAllocatedAndTheTraceIsPassedOn(t *testing.T) {
	var tracer Tracer
	ctx := Join(t.Context(), parent)
	allocated := testing.AllocsPerRun(100, func() {
		inner, span := tracer.Start(ctx, "work", trace.SpanKindConsumer)
		if span.Recording() {
			span.Set(attribute.String("task", "t1"))
		}
		span.End(nil)
		if inner != ctx {
			t.Fatal("the context is another one")
		}
	})
	if allocated != 0 {
		t.Errorf("%v allocations for a span that nobody sees", allocated)
	}
	if allocated = testing.AllocsPerRun(100, func() { _, _ = Text(t.Context()), Join(t.Context(), "") }); allocated != 0 {
		t.Errorf("%v allocations where there is no trace", allocated)
	}
	if got := Text(ctx); got != parent {
		t.Errorf("passed on as %q, want %q", got, parent)
	}
}

func TestSpanIsBelowTheOneOfAnotherProcess(t *testing.T) {
	var seen tracetest.Recorder
	provider := WithAttributes(&seen, attribute.String("agent", "a1"))
	ctx, span := New(provider, "scope").Start(Join(t.Context(), parent), "work", trace.SpanKindConsumer)
	long := errors.New(strings.Repeat("é", errorBytes) + "\xff")
	span.Set(attribute.Int("attempt", 2))
	span.End(long)
	span.End(nil)
	got := seen.Spans("work")
	if len(got) != 1 || len(seen.Open()) != 0 {
		t.Fatalf("%d spans, %q open", len(got), seen.Open())
	}
	s := got[0]
	if from := "00-" + s.Parent.TraceID().String() + "-" + s.Parent.SpanID().String() + "-01"; from != parent || s.Context.TraceID() != s.Parent.TraceID() {
		t.Errorf("it is below %s, want %s", from, parent)
	}
	if s.Attributes["agent"] != "a1" || s.Attributes["attempt"] != "2" || s.Kind != trace.SpanKindConsumer {
		t.Errorf("attributes %v, kind %v", s.Attributes, s.Kind)
	}
	if s.Status != codes.Error || len(s.Error) > errorBytes || !strings.HasSuffix(s.Error, "é…") {
		t.Errorf("status %v, error of %d bytes", s.Status, len(s.Error))
	}
	if got := Text(ctx); !strings.Contains(got, s.Context.SpanID().String()) {
		t.Errorf("another process would be told %s, want span %s", got, s.Context.SpanID())
	}
}

func TestWhatIsNoTraceparentIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"empty":               "",
		"of a later version":  "01" + parent[2:],
		"version that is not": "ff" + parent[2:],
		"upper case":          strings.ToUpper(parent),
		"zero trace":          "00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01",
		"zero span":           "00-4bf92f3577b34da6a3ce929d0e0e4736-" + strings.Repeat("0", 16) + "-01",
		"flags of tomorrow":   strings.TrimSuffix(parent, "01") + "ff",
		"cut off":             parent[:54],
		"more behind it":      parent + "-x",
		"a line behind it":    parent + "\n",
		"a space before it":   " " + parent[:54],
		"no hyphens":          strings.ReplaceAll(parent, "-", "0"),
		"a megabyte":          strings.Repeat("0", 1<<20),
	} {
		if got, err := Parse(text); err == nil || got.IsValid() || len(err.Error()) > 500 {
			t.Errorf("%s: read as %v, %.200v", name, got, err)
		}
		if Clean(text) != "" || trace.SpanContextFromContext(Join(context.Background(), text)).IsValid() {
			t.Errorf("%s: it is joined", name)
		}
	}
}

func FuzzTraceparent(f *testing.F) {
	f.Add(parent)
	f.Add("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
	f.Add("00-ffffffffffffffffffffffffffffffff-ffffffffffffffff-03")
	f.Add("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-has")
	f.Add("00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := Parse(text); err != nil {
			return
		}
		if got := Text(Join(context.Background(), text)); got != text {
			t.Errorf("%q is passed on as %q", text, got)
		}
	})
}

func BenchmarkSpanWithoutProvider(b *testing.B) {
	var tracer Tracer
	ctx := Join(b.Context(), parent)
	b.ReportAllocs()
	for b.Loop() {
		_, span := tracer.Start(ctx, "work", trace.SpanKindConsumer)
		if span.Recording() {
			span.Set(attribute.String("task", "t1"))
		}
		span.End(nil)
	}
}
