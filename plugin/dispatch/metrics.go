package dispatch

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what the workers and dispatchers of one program do, one after
// the other. It is a prometheus.Collector; its names begin with perennial_task.
type Metrics struct {
	ended      *prometheus.CounterVec
	running    prometheus.Gauge
	duration   prometheus.Histogram
	dispatcher prometheus.Gauge
}

// NewMetrics makes one at zero; registering it is the caller's.
func NewMetrics() *Metrics {
	m := &Metrics{
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "perennial_tasks_total", Help: "Runs of tasks that have ended here, by outcome.",
		}, []string{"outcome"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{Name: "perennial_tasks_running", Help: "Tasks that run here."}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "perennial_task_duration_seconds", Help: "How long runs of tasks took, from the claim to the end.",
			Buckets: []float64{.01, .05, .2, 1, 5, 30, 120, 600, 3600},
		}),
		dispatcher: prometheus.NewGauge(prometheus.GaugeOpts{Name: "perennial_task_dispatcher", Help: "1 while this process assigns the tasks of the fleet."}),
	}
	for _, outcome := range []string{endSucceeded, endFailed, endPermanent, endCancelled, endExpired, endReleased, endWithdrawn} {
		m.ended.WithLabelValues(outcome)
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.ended, m.running, m.duration, m.dispatcher}
}

// count counts a run that began at started and has ended; "" is that nothing is
// said about it, as of one whose task is another agent's by now.
func (m *Metrics) count(ended string, started time.Time) {
	if ended == "" {
		ended = endWithdrawn
	}
	m.ended.WithLabelValues(ended).Inc()
	m.duration.Observe(time.Since(started).Seconds())
}
