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

	live, ready, check, duration, indicator, alert *prometheus.Desc
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
		check:     desc("check_ok", "1 if the check or condition passed last.", "check", "kind"),
		duration:  desc("check_duration_seconds", "How long the check's last answer took.", "check"),
		indicator: desc("indicator", "The indicator's value, in the unit of its name.", "indicator"),
		alert:     desc("alert_firing", "1 if the alert fires.", "alert"),
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
	for _, d := range []*prometheus.Desc{c.live, c.ready, c.check, c.duration, c.indicator, c.alert} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		for i := range labels {
			labels[i] = strings.ToValidUTF8(labels[i], "?")
		}
		metric, err := prometheus.NewConstMetric(d, prometheus.GaugeValue, v, labels...)
		if err != nil {
			metric = prometheus.NewInvalidMetric(d, err)
		}
		ch <- metric
	}
	r := c.m.Report()
	gauge(c.live, bit(r.Live))
	gauge(c.ready, bit(r.Ready))
	for _, check := range r.Checks {
		gauge(c.check, bit(check.OK), check.Name, string(check.Kind))
		if check.Duration > 0 {
			gauge(c.duration, check.Duration, check.Name)
		}
	}
	seen := map[string]bool{}
	for _, i := range r.Indicators {
		if i.Rule != "" {
			gauge(c.alert, bit(i.State == Firing), i.Rule)
		}
		// Two rules on one indicator are one series.
		if (i.State != Unknown || !i.At.IsZero()) && !seen[i.Name] {
			seen[i.Name] = true
			gauge(c.indicator, float64(i.Value), i.Name)
		}
	}
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
