package agent

// Entry is what the registry holds of one agent.
type Entry struct {
	Registration
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

// Strays are keys among the agents' that belong to none: below registry,
// status and plugins with what is no id, or of an id that is not registered.
// Agents do not leave such keys behind; somebody else writes there.
type Strays struct {
	Count int `json:"count"`
	// Examples name at most 10, fit for a terminal.
	Examples []string `json:"examples,omitempty"`
}
