package health

import (
	"slices"
	"strings"
	"time"
)

// SetStartup pushes a condition of startup, such as a cache that is filled: an
// error is why it is not over, nil ends it for good. Until then the process is
// not ready, and liveness is not judged. A name that a check or a condition of
// readiness has is refused with a log line.
func (m *Monitor) SetStartup(name string, err error) { m.push(name, Startup, err) }

// maxConditions bounds what one Monitor keeps and shows; each is a series of the
// metrics.
const maxConditions = 1000

// push is Set for a condition of either kind.
func (m *Monitor) push(name string, kind Kind, err error) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.conditions[name]
	if _, taken := m.probes[name]; taken || (c != nil && c.kind != kind) {
		m.log.Error("health condition ignored: a check or another condition has that name", "check", name)
		return
	}
	if c == nil && len(m.conditions) >= maxConditions {
		m.log.Error("health condition ignored: there are too many, remove some by RemoveCheck", "check", name, "total", maxConditions)
		return
	}
	if c == nil {
		c = &condition{kind: kind, since: now}
		m.conditions[name] = c
	}
	if kind == Startup && c.ok() {
		return
	}
	before := *c
	c.text, c.at = errorText(err), now
	if before.told() && before.ok() != c.ok() {
		c.since = now
	}
	if before.ok() != c.ok() || before.told() != c.told() {
		m.propagate(now)
	}
	m.treeChanged()
}

// treeChanged tells whoever waits for another answer. m.mu is held.
func (m *Monitor) treeChanged() {
	notify(m.changed)
	close(m.next)
	m.next = make(chan struct{})
}

// checkReports are the checks and conditions by name. m.mu is held.
func (m *Monitor) checkReports() []CheckReport {
	all := make([]CheckReport, 0, len(m.probes)+len(m.conditions))
	for _, p := range m.probes {
		all = append(all, p.report())
	}
	for name, c := range m.conditions {
		all = append(all, c.report(name))
	}
	slices.SortFunc(all, func(a, b CheckReport) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// answers are what the checks make of the three questions.
type answers struct{ live, ready, started bool }

// answersOf is the one place where results become answers. Those of which
// excluded is true count for none; it may be nil.
func answersOf(checks []CheckReport, excluded func(name string) bool) answers {
	a := answers{live: true, ready: true, started: true}
	for _, c := range checks {
		if c.OK || (excluded != nil && excluded(c.Name)) {
			continue
		}
		// What has no result yet, or none of its own, is no reason to restart a
		// process: another check fails, which may be about etcd.
		a.live = a.live && (!c.Kind.live() || c.At.IsZero() || c.idle)
		a.ready = a.ready && !c.Kind.ready()
		a.started = a.started && !c.Kind.startup()
	}
	a.live = a.live || !a.started
	return a
}

// now returns the answers, and a channel that is closed at the next change of
// the tree.
func (m *Monitor) now() (answers, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return answersOf(m.checkReports(), nil), m.next
}
