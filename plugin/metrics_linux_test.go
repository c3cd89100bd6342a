package plugin_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
)

// TestCallsAreCountedByOutcomeAndTheirSeriesGoWithThePlugin: series of plugins
// that are gone would pile up, and a task for a plugin that there is not must not
// make one of a name that a stranger chose.
func TestCallsAreCountedByOutcomeAndTheirSeriesGoWithThePlugin(t *testing.T) {
	h, _ := startProbe(t, nil)
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(h.Metrics())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	full := errors.New("no room")
	for range 2 {
		if _, err := h.ask(t, "probe", plugin.Task{Capability: "environ"}); err != nil {
			t.Fatal(err)
		}
	}
	for capability, call := range map[string]func(plugin.Task) error{
		"fail":    func(task plugin.Task) error { _, err := h.ask(t, "probe", task); return err },
		"unknown": func(task plugin.Task) error { _, err := h.ask(t, "probe", task); return err },
		"environ": func(task plugin.Task) error {
			return h.Execute(t.Context(), "probe", task, func(plugin.Result) error { return full })
		},
		"fds": func(task plugin.Task) error {
			return h.Execute(ended, "probe", task, func(plugin.Result) error { return nil })
		},
	} {
		if call(plugin.Task{Capability: capability}) == nil {
			t.Fatalf("%s: no error", capability)
		}
	}
	if _, err := h.ask(t, "stranger", plugin.Task{Capability: "environ"}); !errors.Is(err, plugin.ErrNotFound) {
		t.Fatal(err)
	}
	want := `# HELP perennial_plugin_calls_total Tasks given to the plugin that have ended, by outcome.
# TYPE perennial_plugin_calls_total counter
perennial_plugin_calls_total{outcome="cancelled",plugin="probe"} 1
perennial_plugin_calls_total{outcome="delivery",plugin="probe"} 1
perennial_plugin_calls_total{outcome="error",plugin="probe"} 1
perennial_plugin_calls_total{outcome="ok",plugin="probe"} 2
perennial_plugin_calls_total{outcome="unavailable",plugin="probe"} 1
# HELP perennial_plugin_state Always 1; the one state that the plugin is in.
# TYPE perennial_plugin_state gauge
perennial_plugin_state{plugin="probe",state="running"} 1
# HELP perennial_plugins Plugins that there are; of at most 1000 the other metrics tell.
# TYPE perennial_plugins gauge
perennial_plugins 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "perennial_plugin_calls_total", "perennial_plugin_state", "perennial_plugins"); err != nil {
		t.Error(err)
	}
	if _, err := h.ask(t, "probe", plugin.Task{Capability: "crash"}); !errors.Is(err, plugin.ErrInterrupted) {
		t.Fatal(err)
	}
	h.awaitState(t, "probe", plugin.Running)
	want = `# HELP perennial_plugin_restarts_total Processes started to replace one that failed.
# TYPE perennial_plugin_restarts_total counter
perennial_plugin_restarts_total{plugin="probe"} 1
`
	waittest.Nil(t, "the restart is counted", func() error {
		return testutil.GatherAndCompare(reg, strings.NewReader(want), "perennial_plugin_restarts_total")
	})
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	files, err := filepath.Glob(filepath.Join(h.dir, "*"))
	for _, file := range files {
		err = errors.Join(err, os.Remove(file))
	}
	if err != nil {
		t.Fatal(err)
	}
	waittest.Nil(t, "the series go", func() error {
		n, err := testutil.GatherAndCount(reg)
		if err == nil && n != 1 { // that of perennial_plugins
			err = errors.New("there are others")
		}
		return err
	})
}
