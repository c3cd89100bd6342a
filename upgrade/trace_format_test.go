package upgrade

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/perennial-go/perennial/internal/tracetest"
	"github.com/perennial-go/perennial/internal/tracing"
)

const goldenTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestRecordsWithATraceAreReadAndWrittenAsEver(t *testing.T) {
	state := stateOf(t, map[string]string{journalFile: "journal-1-traced.json", askedFile: "request-1-traced.json"})
	a, err := readJournal(filepath.Join(state, journalFile))
	if err != nil || a.Traceparent != goldenTrace {
		t.Errorf("journal: %+v, %v", a, err)
	}
	r, err := readAsked(state)
	if err != nil || r.Traceparent != goldenTrace {
		t.Fatalf("request: %+v, %v", r, err)
	}
	for name, v := range map[string]any{
		"journal-1-traced.json": a,
		"request-1-traced.json": asked{askedSchema, *r, time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)},
	} {
		data, err := json.MarshalIndent(v, "", "  ")
		if err != nil || !bytes.Equal(append(data, '\n'), golden(t, name)) {
			t.Errorf("%s is now written as\n%s (%v)", name, data, err)
		}
	}
	offer := frame{Protocol: 1, Kind: kindOffer, Version: "1.0.0", PID: 100, Attempt: &a, Lease: 42, ProbationMS: 30000}
	var wire bytes.Buffer
	if err := writeFrame(&wire, offer); err != nil || !bytes.Equal(wire.Bytes(), golden(t, "handover-1-traced.bin")) {
		t.Errorf("the offer is now written as\n%q (%v)", wire.Bytes(), err)
	}
	if got, err := readFrame(bytes.NewReader(golden(t, "handover-1-traced.bin"))); err != nil || !reflect.DeepEqual(got, offer) {
		t.Errorf("the offer is read as %+v, %v", got, err)
	}
}

func TestTraceThatIsNoneTravelsToNobody(t *testing.T) {
	u, err := New(Config{StateDir: t.TempDir(), Name: "demo", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{strings.Repeat("0", 1<<20), goldenTrace + "-more", "\x1b[2J"} {
		if u.Request(Request{ID: "a", Traceparent: text}); u.waiting().Traceparent != "" {
			t.Errorf("%.60q is kept", u.waiting().Traceparent)
		}
	}
	if u.Request(Request{ID: "a", Traceparent: goldenTrace}); u.waiting().Traceparent != goldenTrace {
		t.Errorf("%q is kept of a good one", u.waiting().Traceparent)
	}
}

// TestHostProgramWorksBelowThePhase, or where nothing is traced here in the trace
// that was handed over: a successor's RestoreState asks a server that traces.
func TestHostProgramWorksBelowThePhase(t *testing.T) {
	handed := tracing.Join(t.Context(), goldenTrace)
	begin := func(c Config) *Upgrader {
		t.Helper()
		c.StateDir, c.Name, c.Version = t.TempDir(), "demo", "1.0.0"
		u, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		if got := tracing.Text(u.below(t.Context())); got != "" {
			t.Errorf("below %s before anything began", got)
		}
		u.takePart(u.course.begin(handed, SpanSuccessor, time.Now()))
		return u
	}
	if got := tracing.Text(begin(Config{}).below(t.Context())); got != goldenTrace {
		t.Errorf("without a provider it works below %q, want %q", got, goldenTrace)
	}
	var seen tracetest.Recorder
	u := begin(Config{TracerProvider: &seen})
	for _, name := range []string{SpanSuccessor, SpanTakeOver} {
		if name != SpanSuccessor {
			u.course.enter(name, nil)
		}
		if got, want := trace.SpanContextFromContext(u.below(t.Context())), seen.Spans(name)[0].Context; !got.Equal(want) {
			t.Errorf("it works below %v, want %s, %v", got, name, want)
		}
	}
}

func TestWhatAStartFoundIsReadOnceAndOnlyIfItCanBe(t *testing.T) {
	at := time.Now().Add(-time.Second)
	for text, want := range map[string]State{
		string(Committing) + " " + at.Format(time.RFC3339Nano):                        Committing,
		"unheard-of " + at.Format(time.RFC3339Nano):                                   "",
		string(Committing) + " " + time.Now().Add(time.Hour).Format(time.RFC3339Nano): "",
		string(Committing): "",
		"":                 "",
	} {
		t.Setenv(resumedVariable, text)
		if got := takeResumption(); got.state != want {
			t.Errorf("%q is read as %q, want %q", text, got.state, want)
		}
		if got := takeResumption(); got.state != "" {
			t.Errorf("%q is read twice", text)
		}
	}
}
