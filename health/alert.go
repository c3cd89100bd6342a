package health

import (
	"cmp"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// Alert is where a rule stands.
type Alert struct {
	Name      string `json:"name"`
	Indicator string `json:"indicator"`
	// State is Inactive, Pending, Firing or Resolved; Unknown before there was
	// a value. Earlier releases have it empty, of alerts that fire.
	State    State    `json:"state,omitempty"`
	Severity Severity `json:"severity,omitempty"`
	// Summary is Rule.Summary; it is not part of the JSON form.
	Summary string `json:"-"`
	// Value is as last judged.
	Value     Number `json:"value"`
	Threshold Number `json:"threshold"`
	// Unit of Value and Threshold.
	Unit string `json:"unit,omitempty"`
	// Since is when the value went above the threshold of an alert that is
	// pending or fires, and when the state began of any other.
	Since time.Time `json:"since,omitzero"`
	// FiredAt is when the alert fired last; zero if it never did.
	FiredAt time.Time `json:"fired_at,omitzero"`
	// ResolvedAt is when it was resolved after that; zero while it fires.
	ResolvedAt time.Time `json:"resolved_at,omitzero"`
	// Count is how often it has fired since the process started.
	Count int `json:"count,omitempty"`
}

// AlertEvent tells that an alert fired or was resolved: Alert.State says which.
type AlertEvent struct {
	// At is when.
	At time.Time `json:"at"`
	Alert
	// Lost is how many events before this one the hook did not get since it
	// was too slow; 0 in RecentAlerts.
	Lost int `json:"lost,omitempty"`
}

const (
	// recentAlerts is how many events RecentAlerts remembers.
	recentAlerts = 100
	// hookBacklog is how many events wait for a hook that is slow.
	hookBacklog = 256
)

// hook is a function that is told of events. Monitor.mu guards the fields.
type hook struct {
	call    func(AlertEvent)
	waiting []AlertEvent
	lost    int
	busy    bool // a goroutine delivers
}

// Alerts returns all alerts in every state, by name: one for each rule.
func (m *Monitor) Alerts() []Alert {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Alert, len(m.judges))
	for i, j := range m.judges {
		all[i] = j.alert()
	}
	slices.SortFunc(all, func(a, b Alert) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// RecentAlerts returns the last 100 events, the oldest first.
func (m *Monitor) RecentAlerts() []AlertEvent {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.recent)
}

// OnAlert has f called for each event from now on, until the returned function
// is called. Config.OnAlert says what f may do.
func (m *Monitor) OnAlert(f func(AlertEvent)) (remove func()) {
	h := &hook{call: f}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hooks = append(m.hooks, h)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.hooks = slices.DeleteFunc(m.hooks, func(o *hook) bool { return o == h })
		h.waiting = nil
	}
}

// tell records that j fired or was resolved, and has it told to the hooks.
// m.mu is held.
func (m *Monitor) tell(j *judge) {
	e := AlertEvent{Alert: j.alert(), At: j.entered}
	if j.state == Firing {
		m.log.Warn("alert fires", "alert", e.Name, "indicator", e.Indicator, "value", float64(e.Value), "threshold", float64(e.Threshold))
	} else {
		m.log.Info("alert ended", "alert", e.Name, "indicator", e.Indicator, "value", float64(e.Value))
	}
	if len(m.recent) == recentAlerts {
		m.recent = slices.Delete(m.recent, 0, 1)
	}
	m.recent = append(m.recent, e)
	for _, h := range m.hooks {
		if len(h.waiting) == hookBacklog {
			// The newest say how things stand.
			h.waiting = slices.Delete(h.waiting, 0, 1)
			if h.lost++; h.lost == 1 {
				m.log.Error("alerts are lost to a hook that does not return", "count", hookBacklog)
			}
			m.lostEvents++
		}
		h.waiting = append(h.waiting, e)
		m.deliver(h)
	}
	notify(m.changed)
}

// deliver starts what calls the hook, while Run runs. m.mu is held.
func (m *Monitor) deliver(h *hook) {
	if h.busy || !m.delivering || len(h.waiting) == 0 {
		return
	}
	h.busy = true
	m.deliveries.Go(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		defer func() { h.busy = false }()
		for len(h.waiting) > 0 && m.delivering {
			e := h.waiting[0]
			h.waiting = slices.Delete(h.waiting, 0, 1)
			e.Lost, h.lost = h.lost, 0
			m.mu.Unlock()
			err := guarded(h.call, e)
			m.mu.Lock()
			if err != nil {
				m.log.Error("a hook of alerts failed", "alert", e.Name, "error", err)
			}
		}
	})
}

func guarded(f func(AlertEvent), e AlertEvent) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v: %s", v, debug.Stack())
		}
	}()
	f(e)
	return nil
}

// deliverAll begins and ends the time in which hooks are called. What happens
// before it waits. The end waits for the calls under way, and leaves what still
// waits behind them: a hook that takes its time must not keep a process from
// ending.
func (m *Monitor) deliverAll(begin bool) {
	m.mu.Lock()
	m.delivering = begin
	for _, h := range m.hooks {
		m.deliver(h)
	}
	m.mu.Unlock()
	if begin {
		return
	}
	m.deliveries.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.hooks {
		if n := len(h.waiting); n > 0 {
			m.log.Warn("alerts were not told to a hook before the end", "count", n)
		}
	}
}

// byName sorts reports of indicators, and of one indicator by its rules.
func byName(a, b IndicatorReport) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Rule, b.Rule))
}
