package agent

import (
	"time"

	"github.com/perennial-go/perennial/agent/fingerprint"
	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// Registration is the value of registry/<id>: who an agent is. It changes
// only with a restart, an upgrade or the state.
type Registration struct {
	Schema int    `json:"schema"`
	ID     string `json:"id"`
	// Instance tells agents apart that were given the same id.
	Instance string `json:"instance"`
	Version  string `json:"version"`
	// ManifestDigest is "sha256:<hex>" of the signed manifest; empty for an
	// executable that was installed by other means.
	ManifestDigest string `json:"manifest_digest,omitempty"`
	// BinaryDigest is the sha256 in hex of the executable that runs: of its bytes
	// as the process has them (/proc/self/exe), not of what lies at its path. Soon
	// after a start, and where the system cannot tell, it is what was installed,
	// which Status.Upgrade.Running tells as well.
	BinaryDigest string            `json:"binary_digest"`
	Revision     string            `json:"revision,omitempty"`
	BuildTime    string            `json:"build_time,omitempty"`
	Platform     string            `json:"platform"`
	Runtime      string            `json:"runtime"`
	Labels       map[string]string `json:"labels,omitempty"`
	Groups       []string          `json:"groups,omitempty"`
	// Fleet is the one whose plan the agent follows; empty if it follows none, as
	// agents of releases before rollouts do: then no rollout counts it.
	Fleet   string    `json:"fleet,omitempty"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	State   Event     `json:"state"`
	// Home names the state directory on the machine's present boot; empty where
	// it cannot be told. Compare it, do not take it apart.
	Home string `json:"home,omitempty"`
	// HeartbeatEvery is the pause between two renewals of the lease, in seconds.
	// Agents of older releases do not tell it: then it is 0.
	HeartbeatEvery float64 `json:"heartbeat_every_seconds,omitempty"`
	// ConfigSchema is the digest of the JSON Schema of the configuration
	// documents that the agent takes, under config-schema/; empty = has none.
	ConfigSchema string `json:"config_schema,omitempty"`
	// Fingerprint is what the agent runs on; nil while it is not known, where
	// Config.Fingerprint is off, and in what older releases write.
	Fingerprint *fingerprint.Fingerprint `json:"fingerprint,omitempty"`
}

// Status is the value of status/<id>: how an agent fares.
type Status struct { //nolint:recvcheck // UnmarshalJSON needs a pointer, the others edit a copy
	Schema int       `json:"schema"`
	At     time.Time `json:"at"`
	// Every is the longest time between two writes, in seconds, but for jitter.
	// Agents of older releases do not tell it: then it is 0.
	Every float64 `json:"every_seconds,omitempty"`
	// Tree is the whole in brief. Releases before it write none; Entry.Tree then
	// makes it from the rest.
	Tree *Node `json:"tree,omitempty"`
	// LeftOut counts what was left out of the lists below, and bytes of text that
	// were cut off ("text"), so that the value has at most 4 KiB. Checks that pass,
	// and indicators that nothing is wrong with, are always left out, uncounted.
	LeftOut map[string]int `json:"left_out,omitempty"`
	Health  health.Report  `json:"health"`
	Config  *config.Status `json:"config,omitempty"`
	Upgrade upgrade.Status `json:"upgrade"`
	// Rollout is what the agent says about the plan of its fleet that it follows,
	// or was the last to follow; nil where it follows none.
	Rollout *rollout.Report `json:"rollout,omitempty"`
	// RolloutError says why that plan cannot be followed; empty if it can.
	RolloutError string `json:"rollout_error,omitempty"`
	// Responses are what alerts led to last, the newest first, at most 5.
	Responses []ResponseReport `json:"responses,omitempty"`
	// HeartbeatLatency is the round trip of the last heartbeat that etcd has
	// answered, in seconds. One that it has not answered since shows in
	// Presence.HeartbeatError, and as +Inf in the indicator of Health.
	HeartbeatLatency float64 `json:"heartbeat_latency_seconds"`
	// Presence is nil in what older releases write.
	Presence *Presence `json:"presence,omitempty"`
	// OrderError says why the order in etcd could not be read.
	OrderError string `json:"order_error,omitempty"`
	// OrderErrorRevision is the mod revision of that order's key. Agents of
	// older releases do not tell it: then it is 0.
	OrderErrorRevision int64 `json:"order_error_revision,omitempty"`
}

// Presence says how an agent keeps its place in etcd. The counts begin with
// the process.
type Presence struct {
	// TTL is how long the registration outlives the agent, HeartbeatEvery the
	// pause between two renewals, as they are in force; in seconds.
	TTL            float64 `json:"ttl_seconds"`
	HeartbeatEvery float64 `json:"heartbeat_every_seconds"`
	// HeartbeatError says why the last renewal failed; empty if it did not.
	HeartbeatError string `json:"heartbeat_error,omitempty"`
	// EtcdHeard is when etcd last said anything, by the agent's clock.
	EtcdHeard time.Time `json:"etcd_heard,omitzero"`
	// StaleSeconds is how old what the agent sees of etcd may be; Stale says
	// why, and is empty while that is no more than what is usual.
	StaleSeconds float64 `json:"stale_seconds"`
	Stale        string  `json:"stale,omitempty"`
	// Leases that were granted, resumed after an outage or from a predecessor,
	// exchanged for another TTL, lost, and refused.
	LeasesGranted   int64 `json:"leases_granted"`
	LeasesResumed   int64 `json:"leases_resumed"`
	LeasesExchanged int64 `json:"leases_exchanged"`
	LeasesLost      int64 `json:"leases_lost"`
	LeasesRefused   int64 `json:"leases_refused"`
	// Registrations counts how often the registration was written to be
	// present, Restorations how often it was so because somebody else had
	// deleted, changed or added keys of this agent.
	Registrations int64     `json:"registrations"`
	Restorations  int64     `json:"restorations"`
	LastRestored  *Restored `json:"last_restored,omitempty"`
}

// Restored tells that keys of an agent were written again.
type Restored struct {
	At time.Time `json:"at"`
	// Key is one of them, Keys how many there were.
	Key  string `json:"key"`
	Keys int    `json:"keys"`
}

// Order is the value of order/<id>: what one host is asked to do.
type Order struct {
	Schema int `json:"schema"`
	// Request is what is asked for; the host's status repeats its ID.
	upgrade.Request
	At time.Time `json:"at"`
}
