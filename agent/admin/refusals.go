package admin

import (
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/perennial-go/perennial/agent/limit"
)

// Reason says why a call was refused. Those of package limit are reasons, too.
type Reason string

// The reasons.
const (
	// ReasonHost: the Host header names another host, as after DNS rebinding; 421.
	ReasonHost Reason = "host"
	// ReasonOrigin: a page of another site makes a browser ask; 403.
	ReasonOrigin Reason = "origin"
	// ReasonCredentials: the caller shows none, and the route wants some; 401.
	ReasonCredentials Reason = "credentials"
	// ReasonToken: the Authorization header does not count; 401.
	ReasonToken Reason = "token"
	// ReasonCertificate: the client certificate does not count; 401.
	ReasonCertificate Reason = "certificate"
	// ReasonRole: the caller is known and may not do this; 403.
	ReasonRole Reason = "role"
)

// Reasons lists all values that the label "reason" can have.
func Reasons() []Reason {
	all := []Reason{ReasonHost, ReasonOrigin, ReasonCredentials, ReasonToken, ReasonCertificate, ReasonRole}
	for _, r := range limit.Reasons() {
		all = append(all, Reason(r))
	}
	return all
}

// refusals counts what is refused, and logs it without making the log the
// damage.
type refusals struct {
	log     *slog.Logger
	counted *prometheus.CounterVec

	mu       sync.Mutex
	lines    *rate.Limiter
	withheld int64 // lines that were not logged since the last that was
}

// Five lines at once, and then one a second.
const (
	logBurst = 5
	logEvery = time.Second
)

func newRefusals(log *slog.Logger) *refusals {
	f := &refusals{
		log: log, lines: rate.NewLimiter(rate.Every(logEvery), logBurst),
		counted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "perennial_admin_refused_total",
			Help: "Calls and connections that the admin listener refused, by reason.",
		}, []string{"reason"}),
	}
	for _, reason := range Reasons() {
		f.counted.WithLabelValues(string(reason))
	}
	return f
}

// refused is one of them. No field is a secret: callers see to it.
type refused struct {
	reason             Reason
	peer, caller, path string
	why                string
}

func (f *refusals) add(r refused) {
	f.counted.WithLabelValues(string(r.reason)).Inc()
	f.mu.Lock()
	if !f.lines.Allow() {
		f.withheld++
		f.mu.Unlock()
		return
	}
	withheld := f.withheld
	f.withheld = 0
	f.mu.Unlock()
	attrs := []any{"reason", string(r.reason), "peer", r.peer}
	for _, a := range []struct{ key, value string }{{"caller", r.caller}, {"path", r.path}, {"error", r.why}} {
		if a.value != "" {
			attrs = append(attrs, a.key, clip(a.value))
		}
	}
	if withheld > 0 {
		attrs = append(attrs, "withheld", withheld)
	}
	f.log.Warn("admin call refused", attrs...)
}

// maxShown bounds what a log line repeats of what a caller says.
const maxShown = 200

func clip(s string) string {
	if len(s) > maxShown {
		return s[:maxShown] + "…"
	}
	return s
}
