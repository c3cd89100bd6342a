package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FleetOptions say what to look at.
type FleetOptions struct {
	// Selector says which agents; the zero value selects all.
	Selector Selector
	// Worst is how many agents are told by name in each list; default 20, at
	// most 1000.
	Worst int
	// Progress is called after each page with how many agents were read so far.
	// May be nil.
	Progress func(agents int)
}

const (
	fleetWorst    = 20
	maxFleetWorst = 1000
	fleetPage     = 500
	// maxCounted bounds the values of each kind that are counted by name, and
	// maxCounting those that are told apart while the fleet is read.
	maxCounted  = 100
	maxCounting = 10_000
)

// What Fleet.By counts agents by. Of groups and alerts an agent may have several,
// and counts in each.
const (
	ByVersion  = "version"
	ByState    = "state"
	ByHealth   = "health"
	ByConfig   = "config" // the revision that runs
	ByUpgrade  = "upgrade"
	ByGroup    = "group"
	ByPlatform = "platform"
	ByAlert    = "alert"
	BySeverity = "severity"
	ByProblem  = "problem"
)

// Fleet is a fleet in one look. Its size does not grow with the number of agents.
type Fleet struct {
	// At is when it was made, by the clock of whoever made it.
	At time.Time `json:"at"`
	// Revision is that of the store at which it was read.
	Revision int64 `json:"revision"`
	// Agents counts those that are selected. Partial says that not all of the
	// fleet was read; then the error of whoever made it says why.
	Agents  int  `json:"agents"`
	Partial bool `json:"partial,omitempty"`
	// By counts agents by kind, see ByVersion, and value: of each kind the 100
	// values that most agents have, cut to 200 bytes each. Others counts, by kind,
	// what is left out. Of more than 10,000 values those that come first by the
	// agents' ids are counted.
	By     map[string]map[string]int `json:"by"`
	Others map[string]int            `json:"others,omitempty"`
	// Worst are the worst agents with which something is wrong, the worst first.
	Worst []FleetAgent `json:"worst,omitempty"`
	// Overdue are those that have not written their status for longer than they
	// should, the longest first; Silent those that tell none that can be read.
	Overdue      []FleetAgent `json:"overdue,omitempty"`
	Silent       []FleetAgent `json:"silent,omitempty"`
	OverdueCount int          `json:"overdue_count"`
	SilentCount  int          `json:"silent_count"`
	// Strays are keys among the agents' that belong to none.
	Strays Strays `json:"strays"`

	limit int
}

// FleetAgent is an agent in one line.
type FleetAgent struct {
	ID       string   `json:"id"`
	Version  string   `json:"version,omitempty"`
	Severity Severity `json:"severity,omitempty"`
	// Worst is the worst that is wrong.
	Worst string `json:"worst,omitempty"`
	// Age is that of the status in seconds, by the agent's clock; 0 = unknown.
	Age float64 `json:"age_seconds,omitempty"`
}

func newFleetOf(opts FleetOptions, now time.Time) *Fleet {
	f := &Fleet{At: now.UTC(), By: map[string]map[string]int{}, Others: map[string]int{}, limit: opts.Worst}
	if f.limit <= 0 {
		f.limit = fleetWorst
	}
	f.limit = min(f.limit, maxFleetWorst)
	return f
}

// Fleet reads the fleet in pieces and keeps no more of it than it tells. As List,
// it waits up to 30 s for each answer of etcd. With an error it returns what was
// read before it, which has Partial set.
func (d *Directory) Fleet(ctx context.Context, opts FleetOptions) (Fleet, error) {
	for try := 1; ; try++ {
		f, err := d.fleet(ctx, opts)
		if !errors.Is(err, ErrExpired) || try == restarts {
			return *f, err
		}
	}
}

func (d *Directory) fleet(ctx context.Context, opts FleetOptions) (f *Fleet, err error) {
	f = newFleetOf(opts, time.Now())
	defer func() { f.finish(err != nil) }()
	list := ListOptions{Selector: opts.Selector, Limit: fleetPage}
	for {
		page, err := d.List(ctx, list)
		if err != nil {
			return f, fmt.Errorf("the fleet was read up to its agent no. %d: %w", f.Agents, err)
		}
		f.Revision = page.Revision
		for i := range page.Entries {
			f.add(&page.Entries[i])
		}
		f.Strays.Count += page.Strays.Count
		f.Strays.Examples = append(f.Strays.Examples, page.Strays.Examples...)
		f.Strays.Examples = f.Strays.Examples[:min(len(f.Strays.Examples), maxExamples)]
		if opts.Progress != nil {
			opts.Progress(f.Agents)
		}
		if list.Continue = page.Continue; list.Continue == "" {
			return f, nil
		}
	}
}

// Fleet is the fleet as it stands in the snapshot. It costs some microseconds an
// agent.
func (s *Snapshot) Fleet(opts FleetOptions) Fleet {
	f := newFleetOf(opts, time.Now())
	for _, e := range s.entries {
		if opts.Selector.Matches(e) {
			f.add(e)
		}
	}
	f.Revision, f.Strays = s.revision, s.strays
	f.finish(false)
	return *f
}

// add counts an agent.
func (f *Fleet) add(e *Entry) {
	f.Agents++
	severity, worst := e.Standing(f.At)
	f.count(ByVersion, e.Version)
	f.count(ByState, string(e.State.State))
	f.count(ByHealth, e.HealthState())
	f.count(ByPlatform, e.Platform)
	f.count(BySeverity, severity.String())
	for _, g := range e.Groups {
		f.count(ByGroup, g)
	}
	if e.Error != "" {
		f.count(ByProblem, "cannot be read")
	}
	line := FleetAgent{ID: e.ID, Version: brief(e.Version), Severity: severity, Worst: clipped(worst)}
	if e.Status != nil {
		f.addStatus(e.Status)
		if !e.Status.At.IsZero() {
			line.Age = max(f.At.Sub(e.Status.At).Seconds(), 0)
		}
	} else {
		f.SilentCount++
		f.Silent = f.keep(f.Silent, line, worseThan)
	}
	if e.Overdue(f.At) > 0 {
		f.OverdueCount++
		f.Overdue = f.keep(f.Overdue, line, func(a, b FleetAgent) int { return cmp.Or(cmp.Compare(b.Age, a.Age), strings.Compare(a.ID, b.ID)) })
	}
	if severity.rank() > 0 {
		f.Worst = f.keep(f.Worst, line, worseThan)
	}
}

func (f *Fleet) addStatus(s *Status) {
	f.count(ByUpgrade, string(s.Upgrade.State))
	for _, a := range s.Health.Alerts {
		f.count(ByAlert, a.Name)
	}
	if c := s.Config; c != nil {
		f.count(ByConfig, strconv.FormatInt(c.Running, 10))
		if c.Wanted != c.Running {
			f.count(ByProblem, "refuses configuration "+strconv.FormatInt(c.Wanted, 10))
		}
	}
}

func worseThan(a, b FleetAgent) int {
	return cmp.Or(b.Severity.Compare(a.Severity), strings.Compare(a.ID, b.ID))
}

// keep inserts one into a sorted list, which it lets grow to f.limit.
func (f *Fleet) keep(all []FleetAgent, one FleetAgent, order func(a, b FleetAgent) int) []FleetAgent {
	i, _ := slices.BinarySearchFunc(all, one, order)
	if i == f.limit {
		return all
	}
	all = slices.Insert(all, i, one)
	return all[:min(len(all), f.limit)]
}

func (f *Fleet) count(kind, value string) {
	if value == "" {
		return
	}
	counts := f.By[kind]
	if counts == nil {
		counts = map[string]int{}
		f.By[kind] = counts
	}
	value = brief(value) // which is the agent's to choose
	if _, known := counts[value]; !known && len(counts) == maxCounting {
		f.Others[kind]++
		return
	}
	counts[value]++
}

// Counted is how many agents have a value.
type Counted struct {
	Value  string
	Agents int
}

// Most lists the values of a kind, those that most agents have first.
func (f *Fleet) Most(kind string) []Counted {
	var all []Counted
	for value, n := range f.By[kind] {
		all = append(all, Counted{value, n})
	}
	slices.SortFunc(all, func(a, b Counted) int { return cmp.Or(b.Agents-a.Agents, strings.Compare(a.Value, b.Value)) })
	return all
}

// finish bounds what was counted.
func (f *Fleet) finish(partial bool) {
	f.Partial = partial
	for _, kind := range slices.Sorted(maps.Keys(f.By)) {
		if all := f.Most(kind); len(all) > maxCounted {
			for _, c := range all[maxCounted:] {
				delete(f.By[kind], c.Value)
				f.Others[kind] += c.Agents
			}
		}
	}
}
