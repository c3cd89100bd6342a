package etcdkv

import (
	"crypto/tls"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
)

// Metrics counts what one client does, or several. It is a
// prometheus.Collector; its names begin with perennial_etcd_.
type Metrics struct {
	requests *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	attempts prometheus.Counter
	failures *prometheus.CounterVec
	open     prometheus.Gauge
	lost     prometheus.Counter
	again    prometheus.Counter
	sent     prometheus.Counter
	received prometheus.Counter
	logins   *prometheus.CounterVec
	restarts *prometheus.CounterVec
	reloads  prometheus.Counter
	filesOK  prometheus.Gauge
	expiry   prometheus.Gauge

	all []prometheus.Collector
}

// NewMetrics makes one at zero; registering it is the caller's.
func NewMetrics() *Metrics {
	m := &Metrics{}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "perennial_etcd_" + name, Help: help})
		m.all = append(m.all, c)
		return c
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "perennial_etcd_" + name, Help: help}, labels)
		m.all = append(m.all, c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "perennial_etcd_" + name, Help: help})
		m.all = append(m.all, g)
		return g
	}
	m.requests = counters("requests_total", "Requests to etcd that have ended, each attempt for itself, by method and gRPC code.", "method", "code")
	m.latency = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "perennial_etcd_request_duration_seconds", Help: "How long requests took, with the wait for a connection; streams are left out.",
		Buckets: []float64{.001, .005, .02, .1, .5, 2, 5, 10},
	}, []string{"method"})
	m.all = append(m.all, m.latency)
	m.attempts = counter("connect_attempts_total", "Attempts to connect to an etcd endpoint.")
	m.failures = counters("connect_failures_total", "Attempts that failed: dial (no connection), handshake (TLS), refused (etcd closed it at once).", "stage")
	m.open = gauge("connections", "Connections to etcd endpoints that stand now.")
	m.lost = counter("connections_closed_total", "Connections to etcd endpoints that have ended.")
	m.again = counter("reconnects_total", "Connections to etcd endpoints that were made in place of one that had ended.")
	m.sent = counter("sent_bytes_total", "Bytes of messages sent to etcd.")
	m.received = counter("received_bytes_total", "Bytes of messages received from etcd.")
	m.logins = counters("logins_total", "Logins with a password by result: ok, refused, failed, off (etcd asks for none).", "result")
	m.restarts = counters("watch_restarts_total", "Watches that read everything again, by reason.", "reason")
	m.reloads = counter("certificate_reloads_total", "How often replaced certificate files were taken over.")
	m.filesOK = gauge("certificate_files_ok", "0 if the certificate files as they are now cannot be used, so that those read before are.")
	m.expiry = gauge("client_certificate_expiry_timestamp_seconds", "When the client certificate ends that new connections use; 0 = there is none.")
	m.filesOK.Set(1)
	return m
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all {
		c.Collect(ch)
	}
}

func (m *Metrics) request(method string, code codes.Code, took time.Duration) {
	m.requests.WithLabelValues(method, code.String()).Inc()
	if method != "Watch/Watch" && method != "Lease/LeaseKeepAlive" {
		m.latency.WithLabelValues(method).Observe(took.Seconds())
	}
}

func (m *Metrics) login(result string) { m.logins.WithLabelValues(result).Inc() }

func (m *Metrics) files(ok bool, pair *tls.Certificate) {
	m.filesOK.Set(0)
	if ok {
		m.filesOK.Set(1)
	}
	if pair != nil {
		m.expiry.Set(float64(pair.Leaf.NotAfter.Unix()))
	}
}

// countWatchRestart counts a watch on c that reads everything again.
func countWatchRestart(c *clientv3.Client, why Restart) {
	linkOf(c).metrics.restarts.WithLabelValues(string(why)).Inc()
}
