package plugin

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// crowd is a Manager that has n plugins, which have been called.
func crowd(tb testing.TB, n int) *Manager {
	tb.Helper()
	m, err := New(Config{Dir: tb.TempDir(), StateDir: tb.TempDir(), HostVersion: "1.0.0"})
	if err != nil {
		tb.Fatal(err)
	}
	for i := range n {
		name := fmt.Sprintf("collector-of-metrics-%04d", i)
		w := newWorker(name, &m.launcher, m.disabled, m.notify)
		w.calls = m.metrics.counts(name, len(m.workers) < maxShown)
		w.accepted = &bundle{manifest: Manifest{Name: name, Version: "1.12.3", SHA256: strings.Repeat("ab", 32)}}
		w.status.State, w.status.Restarts, w.status.Usage = Running, 3, Usage{RSSBytes: 34 << 20, CPUSeconds: 12.5, OpenFDs: 14}
		for _, o := range []int{callOK, callError, callInterrupted} { // what there is in the long run
			w.calls.ended[o].Add(uint64(i) + 1)
			w.calls.duration.Observe(float64(o))
		}
		m.workers[name] = w
	}
	return m
}

// TestMetricsTellNoMoreThanAThousandPluginsApart: who fills the directory with
// files must not fill Prometheus.
func TestMetricsTellNoMoreThanAThousandPluginsApart(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(crowd(t, maxShown+20).Metrics())
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		switch n := len(f.GetMetric()); f.GetName() {
		case "perennial_plugins":
			if all := f.GetMetric()[0].GetGauge().GetValue(); all != maxShown+20 {
				t.Errorf("%v plugins, want %d", all, maxShown+20)
			}
		case "perennial_plugin_calls_total":
			if n > maxShown*callOutcomes {
				t.Errorf("%d series of calls", n)
			}
		default:
			if n != maxShown {
				t.Errorf("%s has %d series, want %d", f.GetName(), n, maxShown)
			}
		}
	}
}

// TestPluginThatIsRequiredTwiceShowsOnce: a series that there is twice would cost
// the whole answer of /metrics.
func TestPluginThatIsRequiredTwiceShowsOnce(t *testing.T) {
	m, err := New(Config{Dir: t.TempDir(), StateDir: t.TempDir(), Required: []string{"jobs", "logs", "jobs"}})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(m.Metrics())
	if n, err := testutil.GatherAndCount(reg, "perennial_plugin_state"); err != nil || n != 2 {
		t.Errorf("%d plugins, %v", n, err)
	}
}

// counted is an answer that is sent, as a connection does, rather than kept.
type counted struct {
	header http.Header
	n      int
}

func (c *counted) Header() http.Header { return c.header }
func (c *counted) WriteHeader(int)     {}
func (c *counted) Write(p []byte) (int, error) {
	c.n += len(p)
	return len(p), nil
}

// BenchmarkMetricsOf200Plugins is a whole answer of /metrics, with the metrics of
// the runtime and of the process.
func BenchmarkMetricsOf200Plugins(b *testing.B) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(crowd(b, 200).Metrics(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	h := promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	for b.Loop() {
		w := &counted{header: http.Header{}}
		h.ServeHTTP(w, r)
		if w.n < 100_000 {
			b.Fatalf("an answer of %d bytes", w.n)
		}
	}
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	used := after.Utime.Nano() - before.Utime.Nano() + after.Stime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(used)/1e6/float64(b.N), "cpu-ms/op") // also where others use the machine
}
