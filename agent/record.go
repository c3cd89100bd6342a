package agent

import (
	"time"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/upgrade"
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
	// BinaryDigest is the sha256 of the executable in hex.
	BinaryDigest string            `json:"binary_digest"`
	Revision     string            `json:"revision,omitempty"`
	BuildTime    string            `json:"build_time,omitempty"`
	Platform     string            `json:"platform"`
	Runtime      string            `json:"runtime"`
	Labels       map[string]string `json:"labels,omitempty"`
	Groups       []string          `json:"groups,omitempty"`
	Host         string            `json:"host"`
	PID          int               `json:"pid"`
	Started      time.Time         `json:"started"`
	State        Event             `json:"state"`
	// ConfigSchema is the digest of the JSON Schema of the configuration
	// documents that the agent takes, under config-schema/; empty = has none.
	ConfigSchema string `json:"config_schema,omitempty"`
}

// Status is the value of status/<id>: how an agent fares.
type Status struct {
	Schema  int            `json:"schema"`
	At      time.Time      `json:"at"`
	Health  health.Report  `json:"health"`
	Config  *config.Status `json:"config,omitempty"`
	Upgrade upgrade.Status `json:"upgrade"`
	// HeartbeatLatency is the last round trip to etcd, in seconds.
	HeartbeatLatency float64 `json:"heartbeat_latency_seconds"`
	// OrderError says why the order in etcd could not be read.
	OrderError string `json:"order_error,omitempty"`
	// OrderErrorRevision is the mod revision of that order's key. Agents of
	// older releases do not tell it: then it is 0.
	OrderErrorRevision int64 `json:"order_error_revision,omitempty"`
}

// PluginRecord is the value of plugins/<id>/<plugin>.
type PluginRecord struct {
	Schema int `json:"schema"`
	plugin.Status
}

// Order is the value of order/<id>: what one host is asked to do.
type Order struct {
	Schema int `json:"schema"`
	// Request is what is asked for; the host's status repeats its ID.
	upgrade.Request
	At time.Time `json:"at"`
}
