package rollout

import (
	"context"
	"time"
)

// Member is an agent of the fleet as the registry shows it: what a plan selects,
// counts and judges.
type Member struct {
	ID string
	// Fleet is the one whose plan the agent follows; "" = it follows none.
	Fleet    string
	Labels   map[string]string
	Groups   []string
	Host     string
	Platform string
	// Joined is the revision of etcd at which the agent came into the registry,
	// the create revision of its registration: it stays through upgrades and
	// outages that its lease outlives, and is another when it was gone between.
	Joined int64

	// Version, Manifest ("sha256:<hex>", empty for what was installed by hand)
	// and Binary (hex) are of what runs.
	Version, Manifest, Binary string
	// Installed (hex) is of the executable as the agent verified it when it
	// installed it; another one than Binary is drift.
	Installed string
	// Plugins are "sha256:<hex>" of the plugins' executables, by name.
	Plugins map[string]string
	// ConfigDigest and ConfigRevision are of the configuration in force.
	ConfigDigest   string
	ConfigRevision int64
	// Retained are the pins (version@digest, or a version alone where it was
	// adopted) of the releases that the agent can go back to, the last first.
	Retained []string

	// Ready is whether the agent may be given work; Alerts are those that fire.
	Ready  bool
	Alerts []Alert
	// Held says who keeps the host out of upgrades and why; empty = nobody.
	Held string
	// Report is what the agent says about the plan that it follows; nil = nothing
	// yet.
	Report *Report
	// Overdue is true of an agent that renews its lease and does not get on.
	Overdue bool
	// Started is when its process started, by its own clock.
	Started time.Time
	// Told is when it was first seen to be as it is, by the clock of who saw it; zero =
	// not known.
	Told time.Time
}

// Alert is an alert that fires at a Member, or a check that fails there.
type Alert struct {
	// Check: it is a check, without which the agent is not alive or not ready.
	Check    bool
	Name     string
	Severity string // "warning" or "critical"
	// Since is when it began, by the agent's clock, and Lasted how long it had by then
	// when the agent told of it.
	Since  time.Time
	Lasted time.Duration
}

// began is when alert began, by the clock that tells m.Told: those of two machines may
// differ by any time.
func (m *Member) began(alert *Alert) time.Time {
	if m.Told.IsZero() {
		return alert.Since
	}
	return m.Told.Add(-max(alert.Lasted, 0))
}

// Report is what an agent says about the instruction that it follows or was
// the last to follow; part of its status in etcd.
type Report struct {
	// Request is Plan.Request of that instruction.
	Request string      `json:"request"`
	State   ReportState `json:"state"`
	// Reason is why it failed or was refused, at most 300 bytes; Class is that of
	// the failure, as in upgrade.Class.
	Reason string `json:"reason,omitempty"`
	Class  string `json:"class,omitempty"`
	// At is when State began, by the agent's clock.
	At time.Time `json:"at"`
	// Before are the names of the alerts that fired and the checks that failed
	// already when the agent began with it, or first spoke of it, at most
	// maxBefore: they are not the instruction's doing, and begin anew in another
	// process.
	Before []string `json:"before,omitempty"`
}

// ReportState is how far an agent has got with an instruction.
type ReportState string

// The states of a Report.
const (
	// ReportWaiting: it is admitted and may not start now, such as while its plan
	// may be old, the fleet is frozen or its program is busy. It is not down.
	ReportWaiting ReportState = "waiting"
	// ReportStarted: it is under way.
	ReportStarted ReportState = "started"
	// ReportStaged: what is to run lies there, verified, and was not started.
	ReportStaged ReportState = "staged"
	// ReportDone: it runs what the instruction asks for.
	ReportDone ReportState = "done"
	// ReportFailed: it tried, and runs what it ran before.
	ReportFailed ReportState = "failed"
	// ReportRefused: it did not try: a policy, a constraint, a quarantine.
	ReportRefused ReportState = "refused"
	// ReportHeld: its operator keeps it out.
	ReportHeld ReportState = "held"
)

// Ended reports whether s is no longer under way.
func (s ReportState) Ended() bool {
	switch s {
	case ReportStaged, ReportDone, ReportFailed, ReportRefused, ReportHeld:
		return true
	case ReportWaiting, ReportStarted:
	}
	return false
}

// Snapshot is the fleet at one moment. It and the members in it do not change.
type Snapshot struct {
	// Revision is that of etcd up to which every registration is in Members.
	Revision int64
	// Members are those of the fleet, by id.
	Members []*Member
	// Apart are those that follow no fleet's plan: no rollout is about them, and
	// they drift all the same.
	Apart []*Member
}

// Fleet shows who is in the registry: package agent has one of the registry in
// etcd.
type Fleet interface {
	// Watch calls changed with the first snapshot and then with the newest after
	// each change, never concurrently, until ctx ends, whose error it returns. It
	// goes on through outages. While what it shows may be old it calls stale with
	// why, and with nil once it is not.
	Watch(ctx context.Context, changed func(Snapshot), stale func(error)) error
}
