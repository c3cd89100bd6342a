package config

import (
	"maps"

	"github.com/prometheus/client_golang/prometheus"
)

// The reasons of perennial_config_failures_total.
const (
	reasonInvalid = "invalid" // by itself
	reasonRefused = "refused" // by a subscriber
	reasonHanging = "hanging" // a subscriber does not return
	reasonCrashed = "crashed" // the program ended while it took it in
)

// kind is the failure as metrics have it.
func (f *Failure) kind() string {
	switch {
	case f.crashed:
		return reasonCrashed
	case f.hanging:
		return reasonHanging
	case f.Subscriber != "":
		return reasonRefused
	default:
		return reasonInvalid
	}
}

// metrics shows a reporter to Prometheus.
type metrics struct {
	r *reporter

	revision, wanted, since, applied, failures *prometheus.Desc
}

// Metrics shows which configuration is in force, and how many came into force
// and did not since New; its names begin with perennial_config_.
func (s *Store[T]) Metrics() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("perennial_config_"+name, help, labels, nil)
	}
	return &metrics{
		r:        &s.report,
		revision: desc("revision", "Revision in etcd of the configuration in force; 0 = there is no document."),
		wanted:   desc("wanted_revision", "Newest revision in etcd that was seen; another one than that in force while it is bad."),
		since:    desc("applied_timestamp_seconds", "When the configuration came into force in this process; 0 = none did yet."),
		applied:  desc("applied_total", "Configurations that came into force, that of the start among them."),
		failures: desc("failures_total", "Times that a configuration did not come into force, by reason.", "reason"),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.revision, m.wanted, m.since, m.applied, m.failures} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.r.mu.Lock()
	state, applied, failures := m.r.state, m.r.applied, maps.Clone(m.r.failures)
	m.r.mu.Unlock()
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	send(m.revision, prometheus.GaugeValue, float64(state.Running))
	send(m.wanted, prometheus.GaugeValue, float64(state.Wanted))
	since := 0.0
	if !state.RunningSince.IsZero() {
		since = float64(state.RunningSince.UnixMilli()) / 1000
	}
	send(m.since, prometheus.GaugeValue, since)
	send(m.applied, prometheus.CounterValue, float64(applied))
	for _, reason := range []string{reasonInvalid, reasonRefused, reasonHanging, reasonCrashed} {
		send(m.failures, prometheus.CounterValue, float64(failures[reason]), reason)
	}
}
