package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ErrStarted is what a second call of Run returns.
var ErrStarted = errors.New("health: Run may be called once; make a new Monitor")

// Config is what a Monitor is made of. The zero value is usable.
type Config struct {
	// Checks to begin with; AddCheck adds more later.
	Checks []Check
	// Rules defaults to DefaultRules when nil; an empty slice means none.
	Rules []Rule
	// Registry is where the metrics are registered. Nil makes one that also
	// holds the metrics of the Go runtime and of the process. A registry can
	// hold the metrics of one Monitor.
	Registry *prometheus.Registry
	// Indicators come beside the built-in ones, which are MemoryPercent and the
	// other names that this package has constants for. One with the name of a
	// built-in indicator settles that one: what it leaves at zero stays as it
	// is, and so does Measure. AddIndicator adds more later.
	Indicators []Indicator
	// NoBuiltIn leaves the built-in indicators out.
	NoBuiltIn bool
	// DiskPath is a path on the file system that DiskUsedPercent is about;
	// default none: it is not measured.
	DiskPath string
	// Logger gets what changes; nil discards.
	Logger *slog.Logger
	// OnChange is called by Run, one call at a time: once at the start and
	// then when Live, Ready, a check's OK, a condition or the set of firing
	// alerts has changed. Changes during a call are reported by one more call.
	// It is not called for new figures or for another error text of a check
	// that goes on failing. It must return for Run to return.
	OnChange func(Report)
	// OnAlert is called when an alert fires and when it is resolved: once for
	// each, whatever the value does before it is resolved. Calls are made while
	// Run runs, one at a time and in order, and delay nothing but each other:
	// what comes meanwhile waits, up to 256 events, then the oldest are lost
	// and AlertEvent.Lost counts them. The call under way must return for Run
	// to return. Monitor.OnAlert adds more of the kind.
	OnAlert func(AlertEvent)
}

// Monitor holds the health of a process. Its methods may be called
// concurrently, before, during and after Run.
type Monitor struct {
	log      *slog.Logger
	onChange func(Report)
	registry *prometheus.Registry

	started atomic.Bool
	wake    chan struct{} // the schedule has changed
	changed chan struct{} // the tree may have changed

	mu         sync.Mutex
	probes     map[string]*probe
	active     map[*attempt]struct{}
	conditions map[string]*condition
	series     map[string]*series
	judges     []*judge
	ignored    bool // Observe was called with a name that it cannot take
	lag        lag

	hooks      []*hook
	recent     []AlertEvent
	lostEvents int // by all hooks
	delivering bool
	deliveries sync.WaitGroup // added to while delivering
}

// New checks cfg and makes a Monitor. It starts nothing. Errors wrap
// ErrInvalid or ErrDuplicate, or come from the registry.
func New(cfg Config) (*Monitor, error) {
	m := &Monitor{
		log:        cfg.Logger,
		onChange:   cfg.OnChange,
		wake:       make(chan struct{}, 1),
		changed:    make(chan struct{}, 1),
		probes:     map[string]*probe{},
		active:     map[*attempt]struct{}{},
		conditions: map[string]*condition{},
		series:     map[string]*series{},
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if cfg.OnAlert != nil {
		m.OnAlert(cfg.OnAlert)
	}
	if err := m.addIndicators(cfg); err != nil {
		return nil, err
	}
	for _, c := range cfg.Checks {
		if err := m.AddCheck(c); err != nil {
			return nil, err
		}
	}
	var err error
	m.registry, err = register(cfg.Registry, m)
	return m, err
}

// Registry returns where the metrics are registered, for metrics of the
// program's own.
func (m *Monitor) Registry() *prometheus.Registry { return m.registry }

// AddCheck adds a check; if Run is running, it starts at once.
func (m *Monitor) AddCheck(c Check) error {
	c, err := c.normalised()
	if err != nil {
		return err
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	_, isCheck := m.probes[c.Name]
	_, isCondition := m.conditions[c.Name]
	if isCheck || isCondition {
		return fmt.Errorf("%w: there is already a check or condition %s: remove it first or choose another name", ErrDuplicate, c.Name)
	}
	m.probes[c.Name] = &probe{check: c, since: now, due: now}
	notify(m.wake)
	notify(m.changed)
	return nil
}

// RemoveCheck removes the check or condition called name, if there is one. A
// call of the check that is under way has its context cancelled and its
// result dropped.
func (m *Monitor) RemoveCheck(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.probes[name]; p != nil && p.inflight != nil {
		p.inflight.cancel()
	}
	delete(m.probes, name)
	delete(m.conditions, name)
	notify(m.changed)
}

// Set pushes a readiness condition, such as "registration" or "draining": nil
// is good, an error is why the process is not ready. A condition stays until
// the next Set or RemoveCheck. A name that a check has is refused with a log
// line, since a check's answer is its own.
func (m *Monitor) Set(name string, err error) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, taken := m.probes[name]; taken {
		m.log.Error("health condition ignored: a check has that name", "check", name)
		return
	}
	c := m.conditions[name]
	if c == nil {
		c = &condition{since: now}
		m.conditions[name] = c
	} else if (c.text == "") != (err == nil) {
		c.since = now
	}
	c.text, c.at = errorText(err), now
	notify(m.changed)
}

// Report returns the tree as it stands. It runs nothing.
func (m *Monitor) Report() Report {
	r := Report{Schema: Schema, At: time.Now(), Live: true, Ready: true}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.probes {
		r.Checks = append(r.Checks, p.report())
		r.Live = r.Live && (!p.check.Kind.live() || p.ok() || !p.ran)
		r.Ready = r.Ready && (!p.check.Kind.ready() || p.ok())
	}
	for name, c := range m.conditions {
		r.Checks = append(r.Checks, c.report(name))
		r.Ready = r.Ready && c.text == ""
	}
	slices.SortFunc(r.Checks, func(a, b CheckReport) int { return strings.Compare(a.Name, b.Name) })
	for _, s := range m.series {
		for _, j := range s.judges {
			r.Indicators = append(r.Indicators, j.report())
			if j.state == Firing {
				r.Alerts = append(r.Alerts, j.alert())
			}
		}
		if len(s.judges) == 0 && s.shown() {
			r.Indicators = append(r.Indicators, s.report())
		}
	}
	slices.SortFunc(r.Indicators, byName)
	slices.SortFunc(r.Alerts, func(a, b Alert) int { return strings.Compare(a.Name, b.Name) })
	return r
}

// Evaluate runs all checks now, concurrently, each under its own timeout, and
// returns the tree with their results. A check that is running already is
// waited for and not started again; one that hangs past its timeout is not
// waited for. If ctx ends first, the tree has the results so far. Run need not
// be running. Rules keep to their own times.
func (m *Monitor) Evaluate(ctx context.Context) Report {
	now := time.Now()
	m.mu.Lock()
	var waits []<-chan struct{}
	for _, p := range m.probes {
		if p.inflight == nil {
			m.start(context.WithoutCancel(ctx), p)
			p.due = now.Add(p.check.Every)
		}
		waits = append(waits, p.inflight.done)
	}
	m.mu.Unlock()
	for _, done := range waits {
		select {
		case <-done:
		case <-ctx.Done():
			return m.Report()
		}
	}
	return m.Report()
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
