package health

import (
	"fmt"
	"math"
	"time"
)

// Indicators that the library itself measures or pushes.
const (
	// MemoryPercent is the working set in percent of the memory limit. The
	// Monitor measures it.
	MemoryPercent = "memory_percent"
	// HeartbeatLatency is the round trip of a heartbeat in seconds, +Inf when
	// the answer is missing. The agent pushes it.
	HeartbeatLatency = "heartbeat_latency_seconds"
	// EtcdStale is how old what the agent sees of etcd may be, in seconds. The
	// agent pushes it.
	EtcdStale = "etcd_stale_seconds"
	// PluginExceptions counts exceptions of plugins. The agent pushes how many
	// are new.
	PluginExceptions = "plugin_exceptions"
	// ReleaseYanked is 1 while the release that runs is withdrawn by its
	// publisher, else 0. The agent pushes it.
	ReleaseYanked = "release_yanked"
	// ReleaseKeyRevoked is 1 while the key that signed the release that runs is
	// revoked, else 0. The agent pushes it.
	ReleaseKeyRevoked = "release_key_revoked"
)

// Fold is how the samples of one period become the value that is judged.
type Fold string

// The ways to fold samples.
const (
	// Worst takes the highest sample of the period; without one, the value
	// stays. It is the default.
	Worst Fold = "worst"
	// Sum adds the samples of the period; without one, the value is 0. It is
	// for counts of events.
	Sum Fold = "sum"
)

// Rule turns an indicator into an alert. It is judged every Every on what was
// observed since the time before.
//
// The alert is pending from the first value above Above, and fires when the
// value has been above at every judgement for at least For. It ends when the
// value has been at or below Clear for KeepFiring; a value above Clear in
// that time starts KeepFiring again.
type Rule struct {
	// Name of the alert, unique within a Monitor; as Check.Name.
	Name string
	// Indicator is the name under which samples are observed.
	Indicator string
	// Above is the threshold.
	Above float64
	// Clear must not be higher than Above; 0 means Above itself.
	Clear float64
	// For is how long the value must stay above; 0 fires at once.
	For time.Duration
	// KeepFiring is how long the value must stay at or below Clear before the
	// alert ends; 0 ends it at once.
	KeepFiring time.Duration
	// Every is the time between two judgements; default 10 s.
	Every time.Duration
	// Fold defaults to Worst.
	Fold Fold
	// Silence, if not 0, is how long after the last sample the value counts as
	// infinite. An indicator that never had a sample stays Unknown.
	Silence time.Duration
}

// DefaultRules returns the reference table: memory above 85 %, heartbeat
// latency above 2 s, any plugin exception. A new slice each time.
func DefaultRules() []Rule {
	return []Rule{
		{
			Name: "memory", Indicator: MemoryPercent, Every: 10 * time.Second,
			Above: 85, Clear: 80, For: 30 * time.Second, KeepFiring: time.Minute,
		},
		{
			Name: "heartbeat", Indicator: HeartbeatLatency, Every: 5 * time.Second,
			Above: 2, Clear: 1, For: 10 * time.Second, KeepFiring: 30 * time.Second,
		},
		{
			Name: "plugin_exceptions", Indicator: PluginExceptions, Every: 30 * time.Second,
			Above: 0, KeepFiring: 5 * time.Minute, Fold: Sum,
		},
	}
}

func (r Rule) normalised() (Rule, error) {
	if !validName(r.Name) {
		return r, fmt.Errorf("%w: rule name %q: want letters, digits and ._/:-, starting with a letter or digit, at most 128 bytes", ErrInvalid, r.Name)
	}
	if !validName(r.Indicator) {
		return r, fmt.Errorf("%w: rule %s: indicator %q: want the name that Observe is given", ErrInvalid, r.Name, r.Indicator)
	}
	if math.IsNaN(r.Above) || math.IsInf(r.Above, 0) || math.IsNaN(r.Clear) || math.IsInf(r.Clear, 0) {
		return r, fmt.Errorf("%w: rule %s: above %v, clear %v: want finite numbers", ErrInvalid, r.Name, r.Above, r.Clear)
	}
	if r.Clear == 0 {
		r.Clear = r.Above
	}
	if r.Clear > r.Above {
		return r, fmt.Errorf("%w: rule %s: clear %v is higher than above %v: the alert would end while it begins; set it lower or 0", ErrInvalid, r.Name, r.Clear, r.Above)
	}
	if r.For < 0 || r.KeepFiring < 0 || r.Every < 0 || r.Silence < 0 {
		return r, fmt.Errorf("%w: rule %s: for %v, keep firing %v, every %v, silence %v: want 0 or positive times", ErrInvalid, r.Name, r.For, r.KeepFiring, r.Every, r.Silence)
	}
	switch r.Fold {
	case "":
		r.Fold = Worst
	case Worst, Sum:
	default:
		return r, fmt.Errorf("%w: rule %s: fold %q: want worst or sum", ErrInvalid, r.Name, r.Fold)
	}
	if r.Every == 0 {
		r.Every = defaultEvery
	}
	return r, nil
}
