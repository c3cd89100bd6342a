package agent

import "time"

// Entry is what the registry holds of one agent.
type Entry struct {
	Registration
	// Joined is the revision of etcd at which the agent came into the registry. It
	// stays the same through upgrades, and through outages that its lease outlives.
	Joined int64 `json:"joined,omitempty"`
	// Status is nil until the agent has written it.
	Status *Status `json:"status,omitempty"`
	// Plugins are by name, at most 256.
	Plugins []PluginRecord `json:"plugins,omitempty"`
	// Error says what of the agent's values could not be read. If it is the
	// registration, only the ID is set.
	Error string `json:"error,omitempty"`
}

// What HealthState tells, and a selector's .health selects.
const (
	HealthReady    = "ready"
	HealthNotReady = "not-ready"
	HealthDead     = "dead"    // not live
	HealthUnknown  = "unknown" // there is no status that can be read
)

// HealthState is the agent's health in a word: one of the constants.
func (e *Entry) HealthState() string {
	switch {
	case e.Status == nil:
		return HealthUnknown
	case !e.Status.Health.Live:
		return HealthDead
	case !e.Status.Health.Ready:
		return HealthNotReady
	}
	return HealthReady
}

// Tree is what the agent tells of itself, as it stood when it was written. That
// of a release which writes none is put together from what it does write.
func (e *Entry) Tree() Node {
	var tree Node
	switch {
	case e.Status == nil:
		tree = Node{Name: e.ID, State: string(e.State.State), Reason: e.State.Reason, Since: e.State.At}
	case e.Status.Tree != nil:
		tree = *e.Status.Tree
		tree.Name = e.ID
		// The registration is written with it, and alone by a successor.
		tree.State, tree.Since = string(e.State.State), e.State.At
	default:
		tree = treeOf(e.Registration, *e.Status, e.Plugins)
	}
	return tree
}

const (
	// beats without a status are what makes an agent overdue, and some seconds for
	// clocks that differ.
	overdueBeats = 3
	overdueSlack = 30 * time.Second
)

// Overdue is for how long the agent has not written its status, if that is
// longer than it should be: more than three times what it says itself (60 s where
// it does not), and 30 s for clocks that differ; else 0. It compares the agent's
// clock with now. An agent that is gone is not in the registry; one that is
// overdue renews its lease and does not get on.
func (e *Entry) Overdue(now time.Time) time.Duration {
	if e.Status == nil || e.Status.At.IsZero() {
		return 0
	}
	every := statusEvery
	if told := e.Status.Every; told > 0 {
		every = time.Duration(min(told, maxTTL.Seconds()) * float64(time.Second))
	}
	if age := now.Sub(e.Status.At); age > overdueBeats*every+overdueSlack {
		return age
	}
	return 0
}

// Standing is how the agent is, seen from outside at now: how bad, and the worst
// in one line, "" if all is well. It is unknown where something cannot be read,
// nothing is told or the status is overdue, unless what is told is worse.
func (e *Entry) Standing(now time.Time) (Severity, string) {
	tree := e.Tree()
	severity, worst := tree.Severity, tree.Worst()
	unknown := ""
	switch {
	case e.Error != "":
		unknown = "cannot be read: " + e.Error
	case e.Status == nil && e.State.State != Initializing:
		unknown = "tells no status"
	case e.Overdue(now) > 0:
		// Not how old: those who compare would find something new all the time.
		unknown = "has not written its status since " + e.Status.At.UTC().Format(time.DateTime)
	}
	if unknown == "" || severity.Compare(SeverityUnknown) > 0 {
		return severity, worst
	}
	return SeverityUnknown, unknown
}

// Strays are keys among the agents' that belong to none: below registry,
// status and plugins with what is no id, or of an id that is not registered.
// Agents do not leave such keys behind; somebody else writes there.
type Strays struct {
	Count int `json:"count"`
	// Examples name at most 10, fit for a terminal.
	Examples []string `json:"examples,omitempty"`
}
