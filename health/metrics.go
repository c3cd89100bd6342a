package health

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// collector shows the Report as metrics.
type collector struct {
	m *Monitor

	live, ready, starting, check, duration, indicator, failing, alert, fired, lost *prometheus.Desc
}

func register(reg *prometheus.Registry, m *Monitor) (*prometheus.Registry, error) {
	own := reg == nil
	if own {
		reg = prometheus.NewRegistry()
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("perennial_health_"+name, help, labels, nil)
	}
	all := []prometheus.Collector{&collector{
		m:         m,
		live:      desc("live", "1 if the process is live."),
		ready:     desc("ready", "1 if the process may be given work."),
		starting:  desc("starting", "1 until every check of the startup has passed."),
		check:     desc("check_ok", "1 if the check or condition passed last.", "check", "kind"),
		duration:  desc("check_duration_seconds", "How long the check's last answer took.", "check"),
		indicator: desc("indicator", "The indicator's value, in the unit of its name.", "indicator"),
		failing:   desc("indicator_failing", "1 while the indicator cannot be measured any more: its value, and the alerts about it, are as they were.", "indicator"),
		alert:     desc("alert_firing", "1 if the alert fires.", "alert", "severity"),
		fired:     desc("alerts_fired_total", "How often the alert has begun to fire.", "alert"),
		lost:      desc("alert_events_lost_total", "Alerts that a hook was not told of since it was too slow."),
	}}
	if own {
		all = append(all, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("health metrics: a registry holds those of one Monitor: %w", err)
		}
	}
	return reg, nil
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.live, c.ready, c.starting, c.check, c.duration, c.indicator, c.failing, c.alert, c.fired, c.lost} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		for i := range labels {
			labels[i] = strings.ToValidUTF8(labels[i], "?")
		}
		metric, err := prometheus.NewConstMetric(d, kind, v, labels...)
		if err != nil {
			metric = prometheus.NewInvalidMetric(d, err)
		}
		ch <- metric
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) { send(d, prometheus.GaugeValue, v, labels...) }
	r := c.m.Report()
	gauge(c.live, bit(r.Live))
	gauge(c.ready, bit(r.Ready))
	gauge(c.starting, bit(r.Starting))
	for _, check := range r.Checks {
		gauge(c.check, bit(check.OK), check.Name, string(check.Kind))
		if check.Duration > 0 {
			gauge(c.duration, check.Duration, check.Name)
		}
	}
	seen := map[string]bool{}
	for _, i := range r.Indicators {
		// Two rules on one indicator are one series.
		if (i.State != Unknown || !i.At.IsZero()) && !seen[i.Name] {
			seen[i.Name] = true
			gauge(c.indicator, float64(i.Value), i.Name)
			// What never could be measured, as on another system, stands to nobody
			// for anything.
			gauge(c.failing, bit(i.failing && !i.At.IsZero()), i.Name)
		}
	}
	for _, a := range c.m.Alerts() {
		gauge(c.alert, bit(a.State == Firing), a.Name, string(a.Severity))
		send(c.fired, prometheus.CounterValue, float64(a.Count), a.Name)
	}
	c.m.mu.Lock()
	lost := c.m.lostEvents
	c.m.mu.Unlock()
	send(c.lost, prometheus.CounterValue, float64(lost))
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
