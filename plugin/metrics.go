package plugin

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The outcomes of perennial_plugin_calls_total.
const (
	callOK          = iota // the plugin said that the task is done
	callError              // the plugin ended it with an error
	callPermanent          // and said that no other attempt can succeed
	callInterrupted        // the process was replaced, stopped or died
	callCancelled          // the caller's context ended
	callDelivery           // the caller could not take a result
	callUnavailable        // there was no process, or not with that capability
	callOutcomes
)

func callOutcome(i int) string {
	return [callOutcomes]string{"ok", "error", "permanent", "interrupted", "cancelled", "delivery", "unavailable"}[i]
}

// maxShown bounds the plugins that metrics tell apart: the first ones. A Manager
// is made for tens of them, and who fills the directory must not fill Prometheus.
const maxShown = 1000

// callCount counts the calls of one plugin.
type callCount struct {
	shown    bool
	ended    [callOutcomes]atomic.Uint64
	duration prometheus.Observer
}

// around counts a call; of those that did not reach the plugin the time is of no
// interest.
func (c *callCount) around(ctx context.Context, call func() (reached bool, err error)) error {
	began := time.Now()
	reached, err := call()
	if !reached {
		c.ended[callUnavailable].Add(1)
		return err
	}
	c.duration.Observe(time.Since(began).Seconds())
	outcome := callDelivery
	_, own := errors.AsType[*taskError](err)
	switch {
	case err == nil:
		outcome = callOK
	case own && errors.Is(err, ErrPermanent):
		outcome = callPermanent
	case own:
		outcome = callError
	case errors.Is(err, ErrInterrupted):
		outcome = callInterrupted
	case ctx.Err() != nil:
		outcome = callCancelled
	}
	c.ended[outcome].Add(1)
	return err
}

// metrics shows a Manager to Prometheus. Its series are of the plugins that there
// are: those of a plugin whose files are gone go with it.
type metrics struct {
	m *Manager
	// durations has a child for each worker.
	durations *prometheus.HistogramVec

	all                                                                        *prometheus.Desc
	info, state, required, restarts, exceptions, calls, open, memory, cpu, fds *prometheus.Desc
}

func newMetrics(m *Manager) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("perennial_plugin_"+name, help, append([]string{"plugin"}, labels...), nil)
	}
	return &metrics{
		m: m,
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "perennial_plugin_call_duration_seconds", Help: "How long calls took that reached the plugin.",
			Buckets: []float64{.005, .02, .1, .5, 2, 10, 60, 600},
		}, []string{"plugin"}),
		all:        prometheus.NewDesc("perennial_plugins", "Plugins that there are; of at most 1000 the other metrics tell.", nil, nil),
		info:       desc("info", "Always 1; the version that runs, or is to.", "version"),
		state:      desc("state", "Always 1; the one state that the plugin is in.", "state"),
		required:   desc("required", "1 if the host is not ready without the plugin."),
		restarts:   desc("restarts_total", "Processes started to replace one that failed."),
		exceptions: desc("exceptions_total", "Deaths, failed starts and health checks, and tasks that the plugin ended with an error."),
		calls:      desc("calls_total", "Tasks given to the plugin that have ended, by outcome.", "outcome"),
		open:       desc("open_calls", "Calls in flight."),
		memory:     desc("resident_memory_bytes", "Resident memory of the plugin's process as last measured; 0 where the system cannot tell."),
		cpu:        desc("cpu_seconds_total", "User and system time of the plugin's process as last measured."),
		fds:        desc("open_fds", "Open descriptors of the plugin's process as last measured."),
	}
}

// counts returns the counters of a plugin that is new.
func (c *metrics) counts(name string, shown bool) *callCount {
	if !shown {
		return &callCount{duration: prometheus.ObserverFunc(func(float64) {})}
	}
	return &callCount{shown: true, duration: c.durations.WithLabelValues(name)}
}

// Metrics shows the plugins and the calls of them; its names begin with
// perennial_plugin_.
func (m *Manager) Metrics() prometheus.Collector { return m.metrics }

// Describe implements prometheus.Collector.
func (c *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.all, c.info, c.state, c.required, c.restarts, c.exceptions, c.calls, c.open, c.memory, c.cpu, c.fds,
	} {
		ch <- d
	}
	c.durations.Describe(ch)
}

// Collect implements prometheus.Collector.
func (c *metrics) Collect(ch chan<- prometheus.Metric) {
	counts := map[string]*callCount{}
	c.m.mu.Lock()
	for name, w := range c.m.workers {
		counts[name] = w.calls
	}
	c.m.mu.Unlock()
	list := c.m.List()
	ch <- prometheus.MustNewConstMetric(c.all, prometheus.GaugeValue, float64(len(list)))
	for _, s := range list {
		n := counts[s.Name]
		if n != nil && !n.shown {
			continue
		}
		c.plugin(ch, s)
		if n != nil { // else it is required, and there is none
			n.collect(ch, c.calls, s.Name)
		}
	}
	c.durations.Collect(ch)
}

func (c *metrics) plugin(ch chan<- prometheus.Metric, s Status) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{s.Name}, labels...)...)
	}
	counter := func(d *prometheus.Desc, value float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, s.Name)
	}
	required := 0.0
	if s.Required {
		required = 1
	}
	if s.Version != "" {
		gauge(c.info, 1, s.Version)
	}
	gauge(c.state, 1, string(s.State))
	gauge(c.required, required)
	counter(c.restarts, float64(s.Restarts))
	counter(c.exceptions, float64(s.Exceptions))
	gauge(c.open, float64(s.OpenTasks))
	gauge(c.memory, float64(s.Usage.RSSBytes))
	counter(c.cpu, s.Usage.CPUSeconds)
	gauge(c.fds, float64(s.Usage.OpenFDs))
}

// collect shows the outcomes that there were, and the usual ones in any case.
func (n *callCount) collect(ch chan<- prometheus.Metric, d *prometheus.Desc, plugin string) {
	for i := range n.ended {
		if v := n.ended[i].Load(); v > 0 || i == callOK || i == callError {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), plugin, callOutcome(i))
		}
	}
}
