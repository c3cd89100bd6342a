// Package tracetest records spans in memory, for tests that ask which spans
// there were, below which, and whether all of them ended.
package tracetest

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
)

// Recorder is a TracerProvider that records every span and samples all. It may
// be used concurrently.
type Recorder struct {
	embedded.TracerProvider

	// OnEnd is told each span at its end; nil tells nobody.
	OnEnd func(Record)

	mu    sync.Mutex
	spans []*Span
}

// Tracer implements trace.TracerProvider.
func (r *Recorder) Tracer(string, ...trace.TracerOption) trace.Tracer { return &tracer{of: r} }

// Record is what there is to tell of a span.
type Record struct {
	Name       string
	Kind       trace.SpanKind
	Context    trace.SpanContext
	Parent     trace.SpanContext // not valid for the first of a trace
	Links      []trace.SpanContext
	Attributes map[string]string
	Events     []string
	Status     codes.Code
	Error      string
	Start      time.Time
	Ended      time.Time // zero before the end
	Ends       int       // calls of End
}

// Spans returns those with a name, in the order in which they began; all for
// the empty one.
func (r *Recorder) Spans(name string) []Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []Record
	for _, s := range r.spans {
		if name == "" || s.record.Name == name {
			found = append(found, s.record)
		}
	}
	return found
}

// Open returns the names of the spans that have not ended.
func (r *Recorder) Open() []string {
	var open []string
	for _, s := range r.Spans("") {
		if s.Ends == 0 {
			open = append(open, s.Name)
		}
	}
	return open
}

type tracer struct {
	embedded.Tracer

	of *Recorder
}

// Start implements trace.Tracer.
func (t *tracer) Start(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	config := trace.NewSpanStartConfig(options...)
	parent := trace.SpanContextFromContext(ctx)
	made := trace.SpanContextConfig{TraceID: parent.TraceID(), TraceFlags: trace.FlagsSampled}
	_, _ = rand.Read(made.SpanID[:]) // it never fails
	if !parent.IsValid() || config.NewRoot() {
		parent = trace.SpanContext{}
		_, _ = rand.Read(made.TraceID[:])
	}
	s := &Span{of: t.of, record: Record{
		Name: name, Kind: config.SpanKind(), Context: trace.NewSpanContext(made), Parent: parent,
		Attributes: map[string]string{}, Start: config.Timestamp(),
	}}
	if s.record.Start.IsZero() {
		s.record.Start = time.Now()
	}
	for _, l := range config.Links() {
		s.record.Links = append(s.record.Links, l.SpanContext)
	}
	s.SetAttributes(config.Attributes()...)
	t.of.mu.Lock()
	t.of.spans = append(t.of.spans, s)
	t.of.mu.Unlock()
	return trace.ContextWithSpan(ctx, s), s
}

// Span implements trace.Span.
type Span struct {
	embedded.Span

	of     *Recorder
	record Record // under of.mu
}

func (s *Span) edit(change func(*Record)) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.record.Ends == 0 {
		change(&s.record)
	}
}

// End implements trace.Span.
func (s *Span) End(options ...trace.SpanEndOption) {
	config := trace.NewSpanEndConfig(options...)
	at := config.Timestamp()
	if at.IsZero() {
		at = time.Now()
	}
	s.edit(func(r *Record) { r.Ended = at })
	s.of.mu.Lock()
	s.record.Ends++
	record := s.record
	s.of.mu.Unlock()
	if s.of.OnEnd != nil && record.Ends == 1 {
		s.of.OnEnd(record)
	}
}

// AddEvent implements trace.Span.
func (s *Span) AddEvent(name string, _ ...trace.EventOption) {
	s.edit(func(r *Record) { r.Events = append(slices.Clone(r.Events), name) })
}

// AddLink implements trace.Span.
func (s *Span) AddLink(l trace.Link) {
	s.edit(func(r *Record) { r.Links = append(slices.Clone(r.Links), l.SpanContext) })
}

// IsRecording implements trace.Span.
func (s *Span) IsRecording() bool {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	return s.record.Ends == 0
}

// RecordError implements trace.Span.
func (s *Span) RecordError(err error, _ ...trace.EventOption) {
	s.edit(func(r *Record) { r.Error = err.Error() })
}

// SpanContext implements trace.Span.
func (s *Span) SpanContext() trace.SpanContext { return s.record.Context }

// SetStatus implements trace.Span.
func (s *Span) SetStatus(code codes.Code, _ string) { s.edit(func(r *Record) { r.Status = code }) }

// SetName implements trace.Span.
func (s *Span) SetName(name string) { s.edit(func(r *Record) { r.Name = name }) }

// SetAttributes implements trace.Span.
func (s *Span) SetAttributes(attributes ...attribute.KeyValue) {
	s.edit(func(r *Record) {
		set := make(map[string]string, len(r.Attributes)+len(attributes))
		for k, v := range r.Attributes {
			set[k] = v
		}
		for _, a := range attributes {
			set[string(a.Key)] = a.Value.String()
		}
		r.Attributes = set
	})
}

// TracerProvider implements trace.Span.
func (s *Span) TracerProvider() trace.TracerProvider { return s.of }
