package health

import (
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
	// Checks to begin with, in any order; AddCheck adds more later.
	Checks []Check
	// Conditions names conditions that Set will be called for. Until it is, each
	// counts as failed, and a check can come after it.
	Conditions []string
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
	// handedOver is set by HandOver.
	handedOver atomic.Bool
	wake       chan struct{} // the schedule has changed
	changed    chan struct{} // the tree may have changed

	mu         sync.Mutex
	next       chan struct{} // closed, and replaced, when checks have changed
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
		next:       make(chan struct{}),
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
	for _, name := range cfg.Conditions {
		if !validName(name) {
			return nil, fmt.Errorf("%w: condition name %q: want letters, digits and ._/:-, starting with a letter or digit, at most 128 bytes", ErrInvalid, name)
		}
		m.conditions[name] = &condition{kind: Readiness, since: time.Now()}
	}
	err := m.addAll(cfg.Checks)
	if err != nil {
		return nil, err
	}
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
	if err := m.checkAfter(c); err != nil {
		return err
	}
	m.probes[c.Name] = &probe{check: c, since: now, due: now}
	m.propagate(now)
	m.treeChanged()
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
	m.propagate(time.Now())
	m.treeChanged()
}

// Set pushes a readiness condition, such as "registration" or "draining": nil
// is good, an error is why the process is not ready. A condition stays until
// the next Set or RemoveCheck. A name that a check or a condition of startup
// has is refused with a log line, since a check's answer is its own, and so is
// the 1001st condition.
func (m *Monitor) Set(name string, err error) { m.push(name, Readiness, err) }

// Report returns the tree as it stands. It runs nothing.
func (m *Monitor) Report() Report {
	r := Report{Schema: Schema, At: time.Now()}
	m.mu.Lock()
	defer m.mu.Unlock()
	r.Checks = m.checkReports()
	a := answersOf(r.Checks, nil)
	r.Live, r.Ready, r.Starting = a.live, a.ready, !a.started
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

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
