package health

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
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
	// MemoryEvery is the time between two measurements of memory; default
	// 10 s. A negative value turns the measurement off.
	MemoryEvery time.Duration
	// Logger gets what changes; nil discards.
	Logger *slog.Logger
	// OnChange is called by Run, one call at a time: once at the start and
	// then when Live, Ready, a check's OK, a condition or the set of firing
	// alerts has changed. Changes during a call are reported by one more call.
	// It is not called for new figures or for another error text of a check
	// that goes on failing. It must return for Run to return.
	OnChange func(Report)
}

// Monitor holds the health of a process. Its methods may be called
// concurrently, before, during and after Run.
type Monitor struct {
	log         *slog.Logger
	onChange    func(Report)
	registry    *prometheus.Registry
	measure     func() (MemoryUse, error)
	memoryEvery time.Duration

	started atomic.Bool
	wake    chan struct{} // the schedule has changed
	changed chan struct{} // the tree may have changed

	mu         sync.Mutex
	next       chan struct{} // closed, and replaced, when checks have changed
	probes     map[string]*probe
	active     map[*attempt]struct{}
	conditions map[string]*condition
	series     map[string]*series
	judges     []*judge
}

// New checks cfg and makes a Monitor. It starts nothing. Errors wrap
// ErrInvalid or ErrDuplicate, or come from the registry.
func New(cfg Config) (*Monitor, error) {
	m := &Monitor{
		log:         cfg.Logger,
		onChange:    cfg.OnChange,
		measure:     func() (MemoryUse, error) { return MemoryOf("/", "self") },
		memoryEvery: cfg.MemoryEvery,
		wake:        make(chan struct{}, 1),
		changed:     make(chan struct{}, 1),
		next:        make(chan struct{}),
		probes:      map[string]*probe{},
		active:      map[*attempt]struct{}{},
		conditions:  map[string]*condition{},
		series:      map[string]*series{},
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if m.memoryEvery == 0 {
		m.memoryEvery = defaultEvery
	}
	rules := cfg.Rules
	if rules == nil {
		rules = DefaultRules()
	}
	names := map[string]bool{}
	for _, r := range rules {
		r, err := r.normalised()
		if err != nil {
			return nil, err
		}
		if names[r.Name] {
			return nil, fmt.Errorf("%w: two rules are called %s", ErrDuplicate, r.Name)
		}
		names[r.Name] = true
		m.judges = append(m.judges, newJudge(r))
	}
	for _, name := range cfg.Conditions {
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
// has is refused with a log line, since a check's answer is its own.
func (m *Monitor) Set(name string, err error) { m.push(name, Readiness, err) }

// Observe pushes a sample of an indicator. +Inf stands for an answer that did
// not come; NaN counts as +Inf.
func (m *Monitor) Observe(indicator string, value float64) {
	m.observe(indicator, value, "")
}

func (m *Monitor) observe(indicator string, value float64, basis string) {
	if math.IsNaN(value) {
		value = math.Inf(1)
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sampled(indicator)
	s.value, s.at, s.basis = value, now, basis
	for _, j := range m.judges {
		if j.rule.Indicator == indicator {
			j.add(value)
		}
	}
}

// sampled returns the series of an indicator, a new one if need be. m.mu is
// held.
func (m *Monitor) sampled(indicator string) *series {
	s := m.series[indicator]
	if s == nil {
		s = &series{}
		m.series[indicator] = s
	}
	return s
}

// Report returns the tree as it stands. It runs nothing.
func (m *Monitor) Report() Report {
	r := Report{Schema: Schema, At: time.Now()}
	m.mu.Lock()
	defer m.mu.Unlock()
	r.Checks = m.checkReports()
	a := answersOf(r.Checks, nil)
	r.Live, r.Ready, r.Starting = a.live, a.ready, !a.started
	judged := map[string]bool{}
	for _, j := range m.judges {
		judged[j.rule.Indicator] = true
		r.Indicators = append(r.Indicators, j.report(m.series[j.rule.Indicator]))
		if j.state == Firing {
			r.Alerts = append(r.Alerts, j.alert())
		}
	}
	for name, s := range m.series {
		if !judged[name] {
			r.Indicators = append(r.Indicators, IndicatorReport{Name: name, Value: Number(s.value), Basis: s.basis, At: s.at, State: Unknown})
		}
	}
	slices.SortStableFunc(r.Indicators, func(a, b IndicatorReport) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(r.Alerts, func(a, b Alert) int { return strings.Compare(a.Name, b.Name) })
	return r
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
