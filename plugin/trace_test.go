//go:build linux

package plugin_test

import (
	"context"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"

	"github.com/perennial-go/perennial/internal/tracetest"
	"github.com/perennial-go/perennial/internal/tracing"
	"github.com/perennial-go/perennial/plugin"
)

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// askTraced is ask as part of a trace.
func (h *host) askTraced(t *testing.T, capability, traceparent string) (string, error) {
	t.Helper()
	var got string
	err := h.Execute(tracing.Join(t.Context(), traceparent), "probe", plugin.Task{ID: "t1", Capability: capability}, func(r plugin.Result) error {
		got = string(r.Payload)
		return nil
	})
	return got, err
}

func TestPluginsProcessGoesOnWithTheTraceOfItsCall(t *testing.T) {
	seen := &tracetest.Recorder{}
	h, s := startProbe(t, func(c *plugin.Config) { c.TracerProvider = seen })
	got, err := h.askTraced(t, "span", traceparent)
	calls := seen.Spans(plugin.SpanExecute)
	if err != nil || len(calls) != 1 {
		t.Fatalf("%v, %d spans", err, len(calls))
	}
	call := calls[0]
	if tracing.Text(tracing.Join(context.Background(), got)) == "" || !strings.Contains(got, call.Context.SpanID().String()) || !strings.Contains(got, "4bf92f3577b34da6a3ce929d0e0e4736") {
		t.Errorf("the plugin is below %q, want span %s", got, call.Context.SpanID())
	}
	if call.Parent.SpanID().String() != "00f067aa0ba902b7" || call.Status != codes.Unset || call.Attributes["plugin_version"] != s.Version || call.Attributes["task"] != "t1" {
		t.Errorf("the call's span is %+v", call)
	}
	for _, capability := range []string{"fail", "unheard-of"} {
		if _, err := h.askTraced(t, capability, ""); err == nil {
			t.Fatalf("%s went well", capability)
		}
	}
	if err := h.Execute(t.Context(), "nobody", plugin.Task{}, nil); err == nil {
		t.Fatal("a plugin that is not there was called")
	}
	for _, call := range seen.Spans(plugin.SpanExecute)[1:] {
		if call.Status != codes.Error || call.Ends != 1 {
			t.Errorf("the span of a call that failed is %+v", call)
		}
	}
}

func TestCallWithoutAProviderPassesTheTraceOn(t *testing.T) {
	h, _ := startProbe(t, nil)
	for _, want := range []string{traceparent, ""} {
		if got, err := h.askTraced(t, "span", want); err != nil || got != want {
			t.Errorf("the plugin is below %q, want %q, %v", got, want, err)
		}
	}
}
