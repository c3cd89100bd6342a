package upgrade

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/perennial-go/perennial/upgrade/release"
)

// Config describes how one host's agent is upgraded. The zero value of each
// field is its documented default; StateDir, Name and Version are required.
type Config struct {
	// StateDir holds slots, current and the journal; it is made with mode
	// 0700 if it is missing. One running agent owns it.
	StateDir string
	// Name is the name that releases of this program are signed for.
	Name string
	// Version is the SemVer version of the running executable.
	Version string

	// Source is where releases come from; nil refuses upgrades.
	Source release.Source
	// Trust holds the keys that may sign releases, or the roots whose keyring
	// lists them.
	Trust release.Trust
	// Policy limits which releases may follow the running one.
	Policy release.Policy
	// RemoteRollback limits the rollbacks that are asked for from outside the
	// host; default RemoteRollbackOffered.
	RemoteRollback RemoteRollback
	// Requirements must all hold of a release, beside its signature and
	// Policy, before it is downloaded. They do not apply to a rollback, which
	// goes to a release that was taken before.
	Requirements []release.Requirement
	// MemoryLimit bounds what making a release from a delta may take, in bytes;
	// see release.ClientConfig.
	MemoryLimit int64
	// PluginAPI and ConfigSchema are the versions that a release's requires
	// are checked against; empty fails any constraint on them.
	PluginAPI, ConfigSchema string

	// StartTimeout bounds the time from the start of a successor until it
	// serves; default 30 s.
	StartTimeout time.Duration
	// Probation is how long a successor serves before it is trusted;
	// default 30 s.
	Probation time.Duration
	// ProbationLimit is the longest probation that a request can ask for; default
	// 1 h, and never below Probation. In a probation two processes run, and what
	// else is asked for waits.
	ProbationLimit time.Duration
	// HealthEvery is the pause between a successor's health reports;
	// default 1 s.
	HealthEvery time.Duration
	// SilentAfter is how long a successor may send no health report before
	// it counts as hung; default five times HealthEvery.
	SilentAfter time.Duration
	// UnhealthyAfter is how many unhealthy reports in a row end a
	// probation; default 3.
	UnhealthyAfter int
	// AbortTimeout is how long a successor that failed may take to answer
	// the requests that it has accepted before it is killed; default 10 s.
	AbortTimeout time.Duration
	// State hands what the program has in memory to its successor; nil hands
	// nothing over.
	State Stateful
	// StateTimeout bounds each call of State; default 10 s. A successor must
	// serve within StartTimeout all the same.
	StateTimeout time.Duration
	// Retention is how long a replaced release is kept for a rollback;
	// default 72 h.
	Retention time.Duration
	// RetentionLimit is the longest time for which a request can have the release
	// kept that it replaces, or that it stages; default 30 days, and never below
	// Retention. RetentionBytes bounds that, too.
	RetentionLimit time.Duration
	// RetentionBytes bounds what replaced releases take on disk; default
	// 1 GiB. Beyond it the oldest go first; the release that ran before the
	// current one stays for the whole Retention all the same.
	RetentionBytes int64
	// Budget bounds how often one release is started.
	Budget Budget

	// Busy returns what the host program does that should not be
	// interrupted, "" if nothing. It puts the start of a successor off, for
	// BusyLimit at most, and is asked every HealthEvery. May be nil.
	Busy func(ctx context.Context) string
	// BusyLimit is how long Busy may put an upgrade off; default 1 h.
	BusyLimit time.Duration
	// Hooks are called around a change of release.
	Hooks Hooks
	// External names the health checks that depend on the world outside this
	// host, such as a connection. The boot guard does not hold their failure
	// against a release.
	External []string

	// CheckEvery is the pause between two looks at the index, by which a host
	// learns that the release that it runs was withdrawn (Status.Yanked), and
	// which keys were revoked, jittered by a fifth; default 1 h. A
	// release.Cache as the Source passes it on, except under
	// release.PullNever. Negative looks never.
	CheckEvery time.Duration

	// Host is the program that is upgraded; nil is one that is always
	// healthy and compatible.
	Host Host
	// Pulse is told that Run goes round; nil tells nobody.
	Pulse Pulse
	// TracerProvider receives the spans of upgrades and rollbacks; nil begins
	// none, and passes a trace on that a request comes from. The global one is
	// otel.GetTracerProvider().
	TracerProvider trace.TracerProvider
	// Logger receives the log; nil discards it.
	Logger *slog.Logger
}

// Host is what an Upgrader needs to know of the program that it upgrades.
// Its methods are called from one goroutine at a time.
type Host interface {
	// Failing names the health checks that fail now, none when all is well.
	Failing(ctx context.Context) []string
	// Compatible returns why version must not run here, nil if it may.
	Compatible(version string) error
	// Lease is the etcd lease to hand to a successor, 0 for none.
	Lease() int64
	// Changed is told every new status. It must not block.
	Changed(Status)
}

type quietHost struct{}

func (quietHost) Failing(context.Context) []string { return nil }
func (quietHost) Compatible(string) error          { return nil }
func (quietHost) Lease() int64                     { return 0 }
func (quietHost) Changed(Status)                   {}

// complete returns c checked and with its defaults filled in.
func (c Config) complete() (Config, error) {
	if c.StateDir == "" || c.Name == "" {
		return Config{}, errors.New("upgrade: StateDir and Name are required")
	}
	if _, err := release.ParseVersion(c.Version); err != nil {
		return Config{}, fmt.Errorf("upgrade: version of the running program: %w", err)
	}
	if c.RemoteRollback == "" {
		c.RemoteRollback = RemoteRollbackOffered
	}
	if !c.RemoteRollback.Valid() {
		return Config{}, fmt.Errorf("upgrade: RemoteRollback: want %s, %s or %s, found %q", RemoteRollbackOffered, RemoteRollbackAny, RemoteRollbackNever, c.RemoteRollback)
	}
	setDefault(&c.StartTimeout, 30*time.Second)
	setDefault(&c.Probation, 30*time.Second)
	setDefault(&c.HealthEvery, time.Second)
	setDefault(&c.SilentAfter, 5*c.HealthEvery)
	setDefault(&c.UnhealthyAfter, 3)
	setDefault(&c.AbortTimeout, 10*time.Second)
	setDefault(&c.StateTimeout, 10*time.Second)
	setDefault(&c.Retention, 72*time.Hour)
	setDefault(&c.RetentionBytes, 1<<30)
	setDefault(&c.ProbationLimit, time.Hour)
	setDefault(&c.RetentionLimit, 30*24*time.Hour)
	c.ProbationLimit, c.RetentionLimit = max(c.ProbationLimit, c.Probation), max(c.RetentionLimit, c.Retention)
	setDefault(&c.Budget.Starts, 5)
	setDefault(&c.Budget.Window, time.Hour)
	setDefault(&c.BusyLimit, time.Hour)
	setDefault(&c.Hooks.Timeout, 30*time.Second)
	if c.CheckEvery == 0 {
		c.CheckEvery = time.Hour
	}
	if c.Host == nil {
		c.Host = quietHost{}
	}
	if c.Pulse == nil {
		c.Pulse = noPulse{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func setDefault[T int | int64 | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}
