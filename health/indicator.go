package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Indicators that the library itself measures or pushes.
const (
	// MemoryPercent is the working set in percent of the memory limit, every
	// 10 s. The Monitor measures it; see MemoryOf.
	MemoryPercent = "memory_percent"
	// HeartbeatLatency is the round trip of a heartbeat in seconds, +Inf when
	// the answer is missing. The agent pushes it, every 5 s.
	HeartbeatLatency = "heartbeat_latency_seconds"
	// PluginExceptions counts exceptions of plugins. The agent pushes how many
	// are new.
	PluginExceptions = "plugin_exceptions"
	// OpenFilesPercent is the number of open file descriptors in percent of
	// what the process may open (RLIMIT_NOFILE), every 30 s. The Monitor
	// measures it, on Linux.
	OpenFilesPercent = "open_files_percent"
	// Goroutines is the number of goroutines, every 10 s. The Monitor measures
	// it.
	Goroutines = "goroutines"
	// DiskUsedPercent is how full the file system of Config.DiskPath is, as df
	// shows it: in percent of what unprivileged users may fill, of bytes or of
	// inodes, whichever is fuller; every 30 s. The Monitor measures it.
	DiskUsedPercent = "disk_used_percent"
	// CPUThrottledPercent is in how many percent of the scheduler's periods
	// since the last measurement the process's cgroup, or one above it, had
	// used up its CPU quota; every 10 s, 0 without a quota. The Monitor
	// measures it, on Linux.
	CPUThrottledPercent = "cpu_throttled_percent"
	// EventLoopLag is how many seconds late the Monitor's own timer fired, at
	// worst, in the last 10 s: what any timer of the process must expect when
	// the process is short of CPU or stopped. The Monitor measures it.
	EventLoopLag = "event_loop_lag_seconds"
	// ClockOffset is by how many seconds, at least, this host's clock differs
	// from that of an etcd member: 0 while they may agree. The agent measures
	// it.
	ClockOffset = "clock_offset_seconds"
	// RequestP95 is the 95th percentile of the duration of the requests that
	// the agent served lately, in seconds. The agent pushes it.
	RequestP95 = "request_p95_seconds"
	// EtcdStale is how old what the agent sees of etcd may be, in seconds. The
	// agent pushes it.
	EtcdStale = "etcd_stale_seconds"
	// ReleaseYanked is 1 while the release that runs is withdrawn by its
	// publisher, else 0. The agent pushes it.
	ReleaseYanked = "release_yanked"
	// ReleaseKeyRevoked is 1 while the key that signed the release that runs is
	// revoked, else 0. The agent pushes it.
	ReleaseKeyRevoked = "release_key_revoked"
)

// Indicator is a figure that is measured on a schedule or pushed by Observe,
// and that rules may judge.
type Indicator struct {
	// Name is unique within a Monitor; as Check.Name. By convention it ends
	// with its unit, as Prometheus's names do.
	Name string
	// Unit is for people: percent, seconds, files, …; "" where a number is
	// just that.
	Unit string
	// Help says in one sentence what the figure is.
	Help string
	// Every is the time between two measurements; default 10 s. The first is
	// at once. It is also how often a rule of the indicator judges that does
	// not say so itself.
	Every time.Duration
	// Timeout is when a measurement without an answer counts as failed;
	// default 2 s.
	Timeout time.Duration
	// Measure returns the figure as it is now; nil for an indicator that is
	// pushed by Observe. It is never called concurrently with itself, and its
	// context ends after Timeout. After an error, a panic or a NaN the value
	// before stays, and the report tells the error. ErrNoSample is no error.
	Measure func(context.Context) (Sample, error)
	// Rules judge the figure, beside those of Config.Rules. Their Indicator is
	// filled in, and so is a Name that is empty: with the indicator's.
	Rules []Rule
}

// Sample is one value of an indicator.
type Sample struct {
	// Value may be infinite: +Inf stands for an answer that did not come.
	Value float64
	// Basis says, for people, what the value was measured against; see
	// IndicatorReport.Basis. At most 1 KiB of one line is kept.
	Basis string
}

// ErrNoSample is what Indicator.Measure returns when there is nothing to tell,
// as of a rate at the first call, or of the answers to requests when there
// were none.
var ErrNoSample = errors.New("no sample this time")

// maxIndicators bounds what one Monitor keeps and shows; each is a series of
// the metrics.
const maxIndicators = 1000

func (i Indicator) normalised() (Indicator, error) {
	if !validName(i.Name) {
		return i, fmt.Errorf("%w: indicator name %q: want letters, digits and ._/:-, starting with a letter or digit, at most 128 bytes", ErrInvalid, i.Name)
	}
	if i.Every < 0 || i.Timeout < 0 {
		return i, fmt.Errorf("%w: indicator %s: every %v, timeout %v: want 0 for the default or a positive time", ErrInvalid, i.Name, i.Every, i.Timeout)
	}
	if i.Every == 0 {
		i.Every = defaultEvery
	}
	if i.Timeout == 0 {
		i.Timeout = defaultTimeout
	}
	i.Rules = slices.Clone(i.Rules)
	for n := range i.Rules {
		r := &i.Rules[n]
		if r.Name == "" {
			r.Name = i.Name
		}
		if r.Indicator != "" && r.Indicator != i.Name {
			return i, fmt.Errorf("%w: indicator %s has a rule of indicator %s: leave Rule.Indicator empty", ErrInvalid, i.Name, r.Indicator)
		}
		r.Indicator = i.Name
	}
	return i, nil
}

// AddIndicator adds an indicator with its rules; if Run is running, the first
// measurement is at once. The name may have been observed before, but not
// declared. Errors wrap ErrInvalid or ErrDuplicate, and then nothing was added.
func (m *Monitor) AddIndicator(i Indicator) error {
	i, err := i.normalised()
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.declare(i)
}

// declare adds a normalised indicator. m.mu is held, or m is not shared yet.
func (m *Monitor) declare(i Indicator) error {
	if s := m.series[i.Name]; s != nil && s.declared {
		return fmt.Errorf("%w: there is already an indicator %s: remove it first or choose another name", ErrDuplicate, i.Name)
	}
	if m.series[i.Name] == nil && len(m.series) >= maxIndicators {
		return fmt.Errorf("%w: indicator %s: there are %d already, which is the most that one Monitor keeps", ErrInvalid, i.Name, maxIndicators)
	}
	rules := make([]Rule, 0, len(i.Rules))
	for _, r := range i.Rules {
		r, err := r.normalised(i.Every)
		if err != nil {
			return err
		}
		if m.ruled(r.Name) || slices.ContainsFunc(rules, func(o Rule) bool { return o.Name == r.Name }) {
			return fmt.Errorf("%w: indicator %s: there is already a rule %s: choose another name", ErrDuplicate, i.Name, r.Name)
		}
		rules = append(rules, r)
	}
	s := m.sampled(i.Name)
	s.Indicator, s.declared, s.due = i, true, time.Time{}
	for _, r := range rules {
		m.addJudge(r)
	}
	notify(m.wake)
	return nil
}

// RemoveIndicator removes the indicator called name with its value and every
// rule of it, if there is one. An alert of such a rule that fires is resolved
// by that. A measurement that is under way has its context cancelled and its
// result dropped.
func (m *Monitor) RemoveIndicator(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.series[name]
	if s == nil {
		return
	}
	if s.inflight != nil {
		s.inflight.cancel()
	}
	for _, j := range s.judges {
		if j.end(time.Now()) {
			m.tell(j)
		}
	}
	m.judges = slices.DeleteFunc(m.judges, func(j *judge) bool { return j.series == s })
	delete(m.series, name)
	notify(m.wake)
}
