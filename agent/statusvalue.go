package agent

import (
	"bytes"
	"encoding/json"
	"slices"
	"sort"
	"time"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/upgrade"
)

// maxStatus bounds the value of a status, in bytes: 10,000 agents write theirs
// once a minute, and who follows the fleet reads them all.
const maxStatus = 4 << 10

// detail is how much of each kind a status tells.
type detail struct {
	text                          int // bytes of each sentence, as JSON
	reason                        int // of why a rollout failed here
	log, quarantine, retained     int
	checks, alerts, indicators    int
	plugins, layers, notes, other int
	bare                          bool // without what lies elsewhere, too
}

// details go from the most to the least. What an operator acts upon from afar,
// which is where a rollback can go to and how the last order ended, goes last.
func details() []detail {
	return []detail{
		{text: 512, reason: 512, log: 20, quarantine: 10, retained: 8, checks: 20, alerts: 20, indicators: 20, plugins: 50, layers: 16, notes: 8, other: 64},
		{text: 300, reason: 360, log: 10, quarantine: 4, retained: 5, checks: 12, alerts: 12, indicators: 6, plugins: 32, layers: 8, notes: 4, other: 32},
		{text: 200, reason: 360, log: 5, quarantine: 2, retained: 3, checks: 8, alerts: 8, indicators: 3, plugins: 24, layers: 6, notes: 2, other: 16},
		{text: 120, reason: 360, log: 3, quarantine: 1, retained: 3, checks: 5, alerts: 6, plugins: 20, layers: 4, notes: 1, other: 8},
		{text: 80, reason: 360, log: 1, retained: 2, checks: 4, alerts: 5, plugins: 20, layers: 3, other: 8},
		{text: 64, reason: 360, retained: 1, checks: 3, alerts: 3, plugins: 12, layers: 2, other: 4},
		{text: 48, reason: 360, retained: 1, checks: 2, alerts: 2, plugins: 6, layers: 1, other: 2},
		{text: 64, reason: 360, retained: 1, checks: 2, alerts: 2, plugins: 8, layers: 1, other: 2, bare: true},
		{text: 32, reason: 360, checks: 1, alerts: 1, plugins: 3, bare: true},
		{text: 32, reason: 32, checks: 1, alerts: 1, plugins: 3, bare: true},
		{text: 10, reason: 10, plugins: 1, bare: true},
	}
}

// value is s as it is written: at most maxStatus bytes, whatever is in it. Lists
// begin with what is worst, or newest, and lose their end; sentences lose theirs.
func (s Status) value() ([]byte, error) {
	for _, d := range details() {
		data, err := plainJSON(s.reduced(d))
		if err != nil {
			return nil, err
		}
		if len(data) <= maxStatus {
			return s.withLog(d, data), nil
		}
	}
	// Names and ids of a length that nothing of this package lets through.
	return plainJSON(Status{
		Schema: s.Schema, At: s.At, Every: s.Every, HeartbeatLatency: s.HeartbeatLatency,
		Health:  health.Report{Schema: s.Health.Schema, At: s.Health.At, Live: s.Health.Live, Ready: s.Health.Ready},
		LeftOut: map[string]int{"all": 1},
	})
}

// withLog is s as d tells it, which takes data, with as many more lines of the
// failed release's log as there is room for: they say most of why it failed.
func (s Status) withLog(d detail, data []byte) []byte {
	least := d.log
	sort.Search(max(len(s.Upgrade.Log)-least, 0), func(more int) bool {
		d.log = least + more + 1
		longer, err := plainJSON(s.reduced(d))
		if err != nil || len(longer) > maxStatus {
			return true
		}
		data = longer
		return false
	})
	return data
}

// plainJSON leaves <, > and & as they are: no browser reads this, and a rule
// such as ">=1.2" would take six times the room.
func plainJSON(value any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(value)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// UnmarshalJSON implements json.Unmarshaler. The release that failed last is
// written once, and is the newest of the quarantine, too.
func (s *Status) UnmarshalJSON(data []byte) error {
	type plain Status
	if err := json.Unmarshal(data, (*plain)(s)); err != nil {
		return err
	}
	if u := &s.Upgrade; u.LastFailed != nil && !slices.ContainsFunc(u.Quarantine, isFailed(*u.LastFailed)) {
		u.Quarantine = append(u.Quarantine, *u.LastFailed)
	}
	return nil
}

// isFailed finds an entry of the quarantine.
func isFailed(f upgrade.Quarantined) func(upgrade.Quarantined) bool {
	return func(q upgrade.Quarantined) bool { return q.Ref == f.Ref && q.Since.Equal(f.Since) }
}

// progressSteps is how often a download is told of.
const progressSteps = 20

// facts is what of s is written as soon as it changes. Figures, times that move by
// themselves and the words of what goes on failing wait for the beat.
func (s Status) facts() (string, error) {
	s.At, s.HeartbeatLatency, s.LeftOut = time.Time{}, 0, nil
	s.Health = healthFacts(s.Health)
	if s.Presence != nil {
		p := *s.Presence
		p.EtcdHeard, p.StaleSeconds = time.Time{}, 0
		p.Stale, p.HeartbeatError = whether(p.Stale), whether(p.HeartbeatError)
		s.Presence = &p
	}
	if s.Config != nil {
		c := *s.Config
		c.EtcdHeard, c.EtcdSilentSince = time.Time{}, time.Time{}
		s.Config = &c
	}
	if p := s.Upgrade.Progress; p != nil && p.Total > 0 {
		s.Upgrade.Progress = &upgrade.Progress{Done: p.Done * progressSteps / p.Total, Total: p.Total, Form: p.Form, Passed: p.Passed}
	}
	if s.Tree != nil { // the rest of it is made of what is above
		tree := Node{State: s.Tree.State, Reason: s.Tree.Reason}
		if plugins := s.Tree.Child(nodePlugins); plugins != nil {
			tree.Children = plugins.Children
		}
		s.Tree = &tree
	}
	data, err := json.Marshal(s)
	return string(data), err
}

func healthFacts(h health.Report) health.Report {
	facts := health.Report{Live: h.Live, Ready: h.Ready, Starting: h.Starting}
	for _, c := range h.Checks {
		facts.Checks = append(facts.Checks, health.CheckReport{Name: c.Name, Kind: c.Kind, OK: c.OK})
	}
	for _, a := range h.Alerts {
		facts.Alerts = append(facts.Alerts, health.Alert{Name: a.Name, Severity: a.Severity, Since: a.Since})
	}
	return facts
}

// whether tells a text from none.
func whether(text string) string {
	if text == "" {
		return ""
	}
	return "is"
}
