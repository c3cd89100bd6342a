package health

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
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

// Severity is how bad an alert is, for whoever is told.
type Severity string

// The severities.
const (
	// Warning is for what somebody should look at in working hours. It is the
	// default.
	Warning Severity = "warning"
	// Critical is for what somebody should look at now.
	Critical Severity = "critical"
)

// Rule turns an indicator into an alert. It is judged every Every on what was
// observed since the time before.
//
// The alert is inactive until the first value above Above, then pending, and
// fires when the value has been above at every judgement for at least For. It
// is resolved when the value has been at or below Clear for KeepFiring; a value
// above Clear in that time starts KeepFiring again. ResolvedFor later it is
// inactive. Until there is a value to judge it is unknown. While no samples come
// the last value is judged, unless Silence is set or Fold is Sum: an alert that
// fires is not over because nobody can see any more that it is.
//
// Time in which the process did not judge, stopped or suspended, counts for two
// periods at most.
type Rule struct {
	// Name of the alert, unique within a Monitor; as Check.Name.
	Name string
	// Indicator is the name under which samples are observed.
	Indicator string
	// Above is the threshold.
	Above float64
	// Clear must not be higher than Above; 0 means Above itself.
	Clear float64
	// For is how long the value must stay above, less at most a tenth of Every;
	// 0 fires at once.
	For time.Duration
	// KeepFiring is how long the value must stay at or below Clear before the
	// alert ends; 0 ends it at once.
	KeepFiring time.Duration
	// ResolvedFor is how long an alert that has ended is shown as resolved;
	// default 15 min.
	ResolvedFor time.Duration
	// Every is the time between two judgements; default that of the indicator,
	// and 10 s where none is declared. A measurement that is under way is
	// waited for.
	Every time.Duration
	// Fold defaults to Worst.
	Fold Fold
	// Silence, if not 0, is how long after the last sample the value counts as
	// infinite. An indicator that never had a sample stays Unknown.
	Silence time.Duration
	// Severity defaults to Warning.
	Severity Severity
	// Summary says in one sentence what an alert means.
	Summary string
	// Expr is the value as a PromQL expression, for figures that Prometheus
	// should compute by itself; see PrometheusRules. Empty means the
	// indicator's last value as the metrics show it.
	Expr string
}

// normalised checks r and fills in defaults, every for that of Every.
func (r Rule) normalised(every time.Duration) (Rule, error) {
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
	if r.For < 0 || r.KeepFiring < 0 || r.ResolvedFor < 0 || r.Every < 0 || r.Silence < 0 {
		return r, fmt.Errorf("%w: rule %s: for %v, keep firing %v, resolved for %v, every %v, silence %v: want 0 or positive times", ErrInvalid, r.Name, r.For, r.KeepFiring, r.ResolvedFor, r.Every, r.Silence)
	}
	switch r.Fold {
	case "":
		r.Fold = Worst
	case Worst, Sum:
	default:
		return r, fmt.Errorf("%w: rule %s: fold %q: want worst or sum", ErrInvalid, r.Name, r.Fold)
	}
	switch r.Severity {
	case "":
		r.Severity = Warning
	case Warning, Critical:
	default:
		return r, fmt.Errorf("%w: rule %s: severity %q: want warning or critical", ErrInvalid, r.Name, r.Severity)
	}
	r.Every = cmp.Or(r.Every, every, defaultEvery)
	r.ResolvedFor = cmp.Or(r.ResolvedFor, defaultResolvedFor)
	return r, nil
}

// defaultResolvedFor is how long Prometheus, too, tells of what is over.
const defaultResolvedFor = 15 * time.Minute

// Rules returns the rules of the Monitor with their defaults filled in, those
// of its indicators among them.
func (m *Monitor) Rules() []Rule {
	m.mu.Lock()
	defer m.mu.Unlock()
	rules := make([]Rule, len(m.judges))
	for i, j := range m.judges {
		rules[i] = j.rule
	}
	return rules
}

// addRule adds a rule of Config.Rules.
func (m *Monitor) addRule(r Rule) error {
	var every time.Duration
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.series[r.Indicator]; s != nil {
		every = s.Every
	}
	r, err := r.normalised(every)
	if err != nil {
		return err
	}
	if m.ruled(r.Name) {
		return fmt.Errorf("%w: two rules are called %s", ErrDuplicate, r.Name)
	}
	m.addJudge(r)
	return nil
}

// ruled reports whether there is a rule called name. m.mu is held.
func (m *Monitor) ruled(name string) bool {
	return slices.ContainsFunc(m.judges, func(j *judge) bool { return j.rule.Name == name })
}

// addJudge adds a normalised rule. m.mu is held.
func (m *Monitor) addJudge(r Rule) {
	s := m.sampled(r.Indicator)
	j := newJudge(r, s)
	s.judges = append(s.judges, j)
	m.judges = append(m.judges, j)
}
