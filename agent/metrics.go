package agent

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

// metrics are what the agent counts itself, and shows of itself.
type metrics struct {
	agent      *Agent
	etcd       *etcdkv.Metrics
	tasks      *dispatch.Metrics
	requests   *requests
	heartbeats prometheus.Histogram
	missed     prometheus.Counter

	build, state, started *prometheus.Desc
}

func newMetrics(a *Agent) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("perennial_"+name, help, labels, nil)
	}
	return &metrics{
		agent: a, etcd: etcdkv.NewMetrics(), tasks: dispatch.NewMetrics(), requests: newRequests(),
		heartbeats: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "perennial_heartbeat_duration_seconds", Help: "Round trip of heartbeats that etcd has answered.",
			Buckets: []float64{.001, .005, .02, .1, .5, 1, 2, 5, 10},
		}),
		missed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "perennial_heartbeat_failures_total", Help: "Heartbeats that etcd has not answered.",
		}),
		build:   desc("build_info", "Always 1; what runs.", "version", "revision", "goversion", "platform"),
		state:   desc("agent_state", "1 for the state that the agent is in.", "state"),
		started: desc("agent_started_timestamp_seconds", "When the process began."),
	}
}

// register has everything that the agent is made of shown by the registry of its
// health.
func (m *metrics) register() error {
	a := m.agent
	all := []prometheus.Collector{m, m.etcd, m.requests.metric, a.upgrader.Metrics()}
	// A Settings of the program's own need not have any.
	if s, ok := a.cfg.Settings.(interface{ Metrics() prometheus.Collector }); ok {
		all = append(all, s.Metrics())
	}
	if a.cfg.Rollout.Controller {
		all = append(all, a.fleetMetrics)
	}
	if a.plugins != nil {
		all = append(all, a.plugins.Metrics(), m.tasks)
	} else if a.cfg.Tasks.Dispatch {
		all = append(all, m.tasks)
	}
	for _, c := range all {
		if err := a.health.Registry().Register(c); err != nil {
			return fmt.Errorf("agent: metrics: %w", err)
		}
	}
	return nil
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.build, m.state, m.started} {
		ch <- d
	}
	m.heartbeats.Describe(ch)
	m.missed.Describe(ch)
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	a := m.agent
	// A label that is no text would cost all that this collector shows.
	revision := strings.ToValidUTF8(a.cfg.Revision, "\uFFFD")
	gauge(m.build, 1, a.cfg.Version, revision, runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH)
	now := a.lifecycle.get().State
	for _, s := range []State{Initializing, Running, Upgrading, Terminating, Terminated} {
		value := 0.0
		if s == now {
			value = 1
		}
		gauge(m.state, value, string(s))
	}
	gauge(m.started, float64(a.started.UnixMilli())/1000)
	m.heartbeats.Collect(ch)
	m.missed.Collect(ch)
}

// beat counts a heartbeat.
func (m *metrics) beat(latency time.Duration, err error) {
	if err != nil {
		m.missed.Inc()
		return
	}
	m.heartbeats.Observe(latency.Seconds())
}

// leases shows what becomes of the lease of a session that there is from now on.
func (m *metrics) leases(s *etcdkv.Session) error {
	for event, count := range map[string]func(etcdkv.SessionCounters) int64{
		"granted":   func(c etcdkv.SessionCounters) int64 { return c.Granted },
		"lost":      func(c etcdkv.SessionCounters) int64 { return c.Lost },
		"exchanged": func(c etcdkv.SessionCounters) int64 { return c.Exchanged },
		"resumed":   func(c etcdkv.SessionCounters) int64 { return c.Resumed },
		"refused":   func(c etcdkv.SessionCounters) int64 { return c.Refused },
	} {
		c := prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "perennial_etcd_leases_total", ConstLabels: prometheus.Labels{"event": event},
			Help: "What became of leases: granted, lost, exchanged (for another TTL), resumed (after an outage), refused.",
		}, func() float64 { return float64(count(s.Counters())) })
		if err := m.agent.health.Registry().Register(c); err != nil {
			return fmt.Errorf("agent: metrics of etcd: %w", err)
		}
	}
	return nil
}
