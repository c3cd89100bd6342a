package rollout

import (
	"sync"

	prom "github.com/prometheus/client_golang/prometheus"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// maxLabelled bounds the values of a label that agents choose; what is beyond, or
// is called what no pin can be, counts under otherEnvironments.
const (
	maxLabelled       = 64
	otherEnvironments = "(others)"
)

// Metrics shows a fleet's rollouts and its drift to Prometheus, as the controller
// that is elected sees them: another has no series but perennial_rollout_controller.
// It may be used concurrently.
type Metrics struct {
	fleet string

	mu    sync.Mutex
	seen  Observation
	drift Drift

	controller, state, since, stage, stages *prom.Desc
	agents, unavailable, frozen, stuck      *prom.Desc
	fleetDrift                              *prom.Desc
}

// NewMetrics is for the fleet of that name; "" = DefaultFleet.
func NewMetrics(fleet string) *Metrics {
	if fleet == "" {
		fleet = DefaultFleet
	}
	desc := func(name, help string, labels ...string) *prom.Desc {
		return prom.NewDesc("perennial_"+name, help, labels, prom.Labels{"fleet": fleet})
	}
	return &Metrics{
		fleet:       fleet,
		controller:  desc("rollout_controller", "1 while this process is the one that moves the fleet's rollouts on."),
		state:       desc("rollout_state", "1 for the state that the fleet's rollout is in.", "state"),
		since:       desc("rollout_state_timestamp_seconds", "When that state began."),
		stage:       desc("rollout_stage", "Number of the stage that is under way, from 1."),
		stages:      desc("rollout_stages", "How many stages the rollout has."),
		agents:      desc("rollout_agents", "Agents that the rollout has let in, or that came late, by what became of them.", "outcome"),
		unavailable: desc("rollout_unavailable_agents", "Agents that count against the most that may be under way at once."),
		frozen:      desc("rollout_frozen", "1 while the fleet is frozen."),
		stuck:       desc("rollout_stuck", "1 while something keeps the controller from moving the rollout on."),
		fleetDrift:  desc("fleet_drift", "Agents by how what they run compares with the pin of their environment.", "environment", "status"),
	}
}

// Observe takes over what the controller sees, for ControllerConfig.Observe.
func (m *Metrics) Observe(o Observation) {
	o.Snapshot, o.Books.UnderWay, o.Books.Lost = Snapshot{}, nil, nil // not to be kept for the sake of some figures
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = o
}

// Drift takes over a comparison, for DriftWatchConfig.Changed.
func (m *Metrics) Drift(d Drift) {
	d.Agents = nil
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drift = d
}

// Describe implements prom.Collector.
func (m *Metrics) Describe(ch chan<- *prom.Desc) {
	for _, d := range []*prom.Desc{
		m.controller, m.state, m.since, m.stage, m.stages, m.agents, m.unavailable, m.frozen, m.stuck, m.fleetDrift,
	} {
		ch <- d
	}
}

// Collect implements prom.Collector.
func (m *Metrics) Collect(ch chan<- prom.Metric) {
	m.mu.Lock()
	seen, drift := m.seen, m.drift
	m.mu.Unlock()
	send := func(d *prom.Desc, value float64, labels ...string) {
		ch <- prom.MustNewConstMetric(d, prom.GaugeValue, value, labels...)
	}
	is := func(d *prom.Desc, yes bool, labels ...string) {
		value := 0.0
		if yes {
			value = 1
		}
		send(d, value, labels...)
	}
	is(m.controller, seen.Elected)
	if !seen.Elected {
		return
	}
	is(m.frozen, seen.Freeze != nil)
	is(m.stuck, seen.Err != nil)
	drifts(drift, func(environment string, status DriftStatus, n int) {
		send(m.fleetDrift, float64(n), environment, string(status))
	})
	p := seen.Plan
	if p == nil {
		return
	}
	for _, s := range []State{Running, Paused, Halted, Reverting, Reverted, Aborted, Completed} {
		is(m.state, p.State == s, string(s))
	}
	send(m.since, float64(p.Since.UnixMilli())/1000)
	send(m.stage, float64(min(p.Stage+1, len(p.Stages))))
	send(m.stages, float64(len(p.Stages)))
	f := seen.Books.Figures
	for outcome, n := range map[string]int{
		"waiting": f.Waiting, "under_way": f.UnderWay, "succeeded": f.Succeeded, "failed": f.Failed,
		"silent": f.Silent, "gone": f.Gone, "held": f.Held, "late": f.Late,
	} {
		send(m.agents, float64(n), outcome)
	}
	send(m.unavailable, float64(f.Unavailable))
}

// drifts calls f with each count, all statuses of each environment.
func drifts(d Drift, f func(environment string, status DriftStatus, n int)) {
	others, folded := map[DriftStatus]int{}, false
	for i, e := range d.Environments {
		fold := i >= maxLabelled || etcdkv.ValidID(e.Environment) != nil
		folded = folded || fold
		for _, s := range DriftStatuses() {
			if fold {
				others[s] += e.Agents[s]
			} else {
				f(e.Environment, s, e.Agents[s])
			}
		}
	}
	for _, s := range DriftStatuses() {
		if folded {
			f(otherEnvironments, s, others[s])
		}
	}
}
