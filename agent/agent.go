package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/perennial-go/perennial/agent/admin"
	"github.com/perennial-go/perennial/agent/fingerprint"
	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/tracing"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// ErrSuperseded is what Run returns when a successor has committed and this
// process has drained. It is a good end: exit with 0.
var ErrSuperseded = upgrade.ErrSuperseded

// Config describes an agent. ID, Version, StateDir, Etcd.Endpoints and Start
// are required; the zero value of every other field is its default.
type Config struct {
	// ID is unique in the fleet and matches [A-Za-z0-9][A-Za-z0-9._-]{0,127}.
	ID string
	// Name is the name that releases are signed for; default "agent".
	Name string
	// Version is the program's SemVer version, usually set by -ldflags.
	Version string
	// Revision and BuildTime say what the program was built from; shown only.
	Revision, BuildTime string
	// Groups name the configuration groups, the later one winning.
	Groups []string
	// Labels describe the agent to those who select agents.
	Labels map[string]string

	Etcd EtcdConfig
	// StateDir belongs to this agent alone; it is made if it is missing.
	StateDir string
	// TTL is how long the registration outlives the agent; default 30 s. The
	// section "perennial" of the configuration, where Settings has one, goes
	// before it and HeartbeatEvery.
	TTL time.Duration
	// HeartbeatEvery is the pause between two renewals, jittered; default 5 s,
	// or a third of TTL, whichever is less.
	HeartbeatEvery time.Duration
	// StatusEvery is the longest time between two writes of the status, jittered;
	// default 60 s.
	StatusEvery time.Duration
	// Spread is the time over which agents that see the same thing at once, such
	// as a change of their configuration, spread what they write about it;
	// default 1 s, negative = none. The progress of an upgrade does not wait.
	Spread time.Duration
	// ConnectTimeout bounds the wait for etcd at a start; default 5 s. An
	// agent that was registered before starts without etcd after that.
	ConnectTimeout time.Duration

	// Upgrade says where releases come from and who may sign them. StateDir,
	// Name, Version, State, Host, TracerProvider and Logger are filled in.
	Upgrade upgrade.Config
	// Supervise says whether Run keeps a first process, with a pid that stays
	// from release to release, that starts the serving one; see
	// upgrade.Supervise. Default: where the process is pid 1.
	Supervise upgrade.Supervision
	// Plugins says where plugins lie; without Dir there are none. StateDir,
	// HostVersion, TracerProvider and Logger are filled in, and so is Verify where Upgrade.Trust
	// has keys: signatures count by those that sign releases.
	Plugins plugin.Config
	// Tasks says what the agent does about the tasks of its fleet.
	Tasks Tasks
	// Rollout says which fleet's plan the agent follows.
	Rollout Rollout
	// Health adds checks, indicators and rules. The default rules of
	// ReleaseYanked, ReleaseKeyRevoked and EtcdStale are added to configured
	// ones unless there are such, or none are wanted. DiskPath defaults to
	// StateDir.
	Health health.Config
	// Admin is the listener for probes, metrics, status and profiles; without
	// an Address there is none. See AdminHandle for routes of the program's own.
	Admin admin.Config
	// Responses are what the agent does by itself when alerts fire; at most 50.
	Responses []Response
	// Settings is a *config.Store; nil means no configuration from etcd.
	Settings Settings
	// Fingerprint says how far the agent looks at what it runs on, for its
	// registration: by default at files, and at the sockets of container runtimes.
	Fingerprint fingerprint.Config
	// Drain says how servers end.
	Drain upgrade.Drain

	// Start opens listeners with Listen, serves them with ServeHTTP or Go,
	// and returns once that is done. Its ctx ends when draining begins.
	// Required.
	Start func(ctx context.Context, a *Agent) error
	// State hands what the program has in memory, such as counters or
	// sessions, to the release that takes its place, which gets it before its
	// Start is called; nil hands nothing over.
	// Upgrade.StateTimeout bounds it.
	State upgrade.Stateful
	// Stop is called after the drain, to close what requests in flight
	// needed. May be nil.
	Stop func(ctx context.Context) error

	// TracerProvider receives the spans of upgrades and tasks, see
	// docs/observability.md. nil begins none, and passes on the traces that
	// orders and tasks come with; otel.GetTracerProvider() is the global one. It
	// is the author's to shut down, after Run.
	TracerProvider trace.TracerProvider
	// Logger receives the log; nil discards it. See Logger.
	Logger *slog.Logger
	// Secrets returns texts that Diagnose takes out wherever they are, beside
	// those that it finds by itself, such as those of the program's own files.
	// May be nil.
	Secrets func() []string
}

// Settings is what an agent needs of a configuration store: any
// *config.Store has it.
type Settings interface {
	Run(ctx context.Context, src config.Source) error
	Ready() <-chan struct{}
	Status() config.Status
}

// Agent is one agent process. Make it with New and call Run once; the other
// methods may be called concurrently from Start on.
type Agent struct {
	cfg       Config
	log       *slog.Logger
	metrics   *metrics
	tracer    tracing.Tracer
	lifecycle *lifecycle
	upgrader  *upgrade.Upgrader
	health    *health.Monitor
	pulses    pulses
	responder *responder
	service   *serviceManager
	plugins   *plugin.Manager // nil without a directory
	tasking   *tasking
	following *following
	schema    *configSchema
	admin     *adminSite // nil without an address
	started   time.Time
	ran       atomic.Bool
	// executable is what runs, and around what it runs.
	executable executable
	around     atomic.Pointer[fingerprint.Fingerprint] // nil until it is known
	// fleetMetrics are of the controller that this agent may be.
	fleetMetrics *rollout.Metrics
	// diagnosing is held while a diagnosis is made.
	diagnosing sync.Mutex

	presence  *presence
	orders    *orders // set by Run before Start
	publisher publisher

	host       hostWork
	exceptions map[string]int64 // by plugin, as told last
	pluginBook pluginBook
}

// New checks cfg and starts nothing.
func New(cfg Config) (*Agent, error) {
	if err := check(&cfg); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	cfg.TracerProvider = traced(cfg)
	a := &Agent{
		cfg: cfg, log: cfg.Logger, tracer: tracing.New(cfg.TracerProvider, scope), started: time.Now().UTC(), publisher: newPublisher(),
	}
	a.metrics, a.fleetMetrics = newMetrics(a), rollout.NewMetrics(cfg.Rollout.Fleet)
	a.presence, a.tasking = newPresence(a), newTasking(a)
	a.following = newFollowing(a)
	a.lifecycle = newLifecycle(a.touchSoon)
	a.service = newServiceManager(cfg.Logger)
	a.schema = newConfigSchema(cfg.Settings, cfg.Logger, a.presence.section())
	var err error
	if a.upgrader, err = upgrade.New(a.upgradeConfig()); err != nil {
		return nil, err
	}
	if a.health, err = health.New(a.healthConfig()); err != nil {
		return nil, err
	}
	a.health.SetStartup(conditionStart, errStarting)
	if a.pulses, err = newPulses(a.health, cfg.StatusEvery); err != nil {
		return nil, err
	}
	if cfg.Admin.Address != "" {
		if a.admin, err = newAdminSite(a); err != nil {
			return nil, err
		}
	}
	if a.responder, err = newResponder(a); err != nil {
		return nil, err
	}
	if cfg.Plugins.Dir != "" {
		if a.plugins, err = plugin.New(a.pluginConfig()); err != nil {
			return nil, err
		}
	}
	return a, a.metrics.register()
}

// check validates cfg and fills in defaults.
func check(cfg *Config) error {
	if err := etcdkv.ValidID(cfg.ID); err != nil {
		return fmt.Errorf("agent id: %w", err)
	}
	cfg.Groups, cfg.Labels = slices.Clone(cfg.Groups), maps.Clone(cfg.Labels)
	for _, g := range cfg.Groups {
		if err := etcdkv.ValidID(g); err != nil {
			return fmt.Errorf("group: %w", err)
		}
	}
	switch {
	case cfg.StateDir == "":
		return errors.New("StateDir is missing: name a directory that belongs to this agent alone")
	case len(cfg.Etcd.Endpoints) == 0:
		return errors.New("Etcd.Endpoints is missing: name at least one, such as http://127.0.0.1:2379")
	case etcdkv.ValidRoot(cfg.Etcd.Root) != nil:
		return fmt.Errorf("Etcd.Root: %w", etcdkv.ValidRoot(cfg.Etcd.Root))
	case cfg.Start == nil:
		return errors.New("Start is missing: it opens the program's listeners")
	}
	if err := cfg.Tasks.check(); err != nil {
		return err
	}
	if err := cfg.Rollout.check(); err != nil {
		return err
	}
	if cfg.Name == "" {
		cfg.Name = "agent"
	}
	if cfg.TTL == 0 {
		cfg.TTL = etcdkv.DefaultTTL
	}
	if cfg.StatusEvery <= 0 {
		cfg.StatusEvery = statusEvery
	}
	if cfg.Spread == 0 {
		cfg.Spread = time.Second
	}
	if cfg.ConnectTimeout <= 0 {
		cfg.ConnectTimeout = 5 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if _, ok := cfg.Logger.Handler().(*recorder); !ok {
		cfg.Logger = Logger(cfg.Logger, cfg.ID, cfg.Version)
	}
	return nil
}

func (a *Agent) upgradeConfig() upgrade.Config {
	c := a.cfg.Upgrade
	c.StateDir, c.Name, c.Version = a.cfg.StateDir, a.cfg.Name, a.cfg.Version
	c.State, c.Host, c.Logger = a.cfg.State, upgradeHost{a}, a.log
	c.Pulse = upgradePulse{a}
	c.TracerProvider = a.cfg.TracerProvider
	c.External = append(slices.Clone(c.External), conditionRegistration)
	refusable := false
	for _, r := range a.cfg.Responses {
		if r.Action == RespondDrain {
			c.External = append(c.External, conditionResponse+r.Alert)
		}
		if r.Action == RespondRefuseUpgrades && !refusable {
			refusable = true
			c.Requirements = append(slices.Clone(c.Requirements), noRefusal{a})
		}
	}
	return c
}

func (a *Agent) healthConfig() health.Config {
	c := a.cfg.Health
	told := c.OnChange
	c.Conditions = append(slices.Clone(c.Conditions), conditionRegistration)
	c.Rules = withOwnRules(c.Rules)
	if c.DiskPath == "" {
		c.DiskPath = a.cfg.StateDir
	}
	for _, own := range []health.Indicator{a.metrics.requests.indicator(), clockIndicator(a.cfg.Etcd)} {
		c.Indicators = withMeasured(c, own)
	}
	c.OnChange = func(r health.Report) {
		if told != nil {
			told(r)
		}
		a.touchSoon()
	}
	if c.Logger == nil {
		c.Logger = a.cfg.Logger
	}
	return c
}

func (a *Agent) pluginConfig() plugin.Config {
	c := a.cfg.Plugins
	c.HostVersion, c.Logger = a.cfg.Version, a.log
	c.TracerProvider = a.cfg.TracerProvider
	if c.StateDir == "" {
		c.StateDir = filepath.Join(a.cfg.StateDir, "plugins")
	}
	if t := a.cfg.Upgrade.Trust; c.Verify == nil && len(t.Keys)+len(t.Roots) > 0 {
		c.Verify = a.verifyPlugin
	}
	if c.DetachTimeout == 0 {
		c.DetachTimeout = a.cfg.Drain.WithDefaults().Timeout
	}
	told := c.OnChange
	c.OnChange = func(s []plugin.Status) {
		if told != nil {
			told(s)
		}
		a.observePlugins(s)
		a.tasking.changed()
		if a.pluginBook.due(s, time.Now()) {
			a.touchSoon()
		}
	}
	return c
}

// Info is this agent's registration as it stands.
func (a *Agent) Info() Registration {
	running := a.upgrader.Running()
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	r := Registration{
		Schema: schema, ID: a.cfg.ID,
		Version: a.cfg.Version, ManifestDigest: running.Manifest, BinaryDigest: a.executable.of(running),
		Revision: a.cfg.Revision, BuildTime: a.cfg.BuildTime,
		Platform: runtime.GOOS + "/" + runtime.GOARCH, Runtime: runtime.Version(),
		Labels: a.cfg.Labels, Groups: a.cfg.Groups, Fleet: a.cfg.Rollout.followed(), ConfigSchema: a.schema.digest,
		Host: host, PID: os.Getpid(), Started: a.started, State: a.lifecycle.get(), Fingerprint: a.around.Load(),
	}
	a.presence.describe(&r)
	return r
}

// Events returns the present state and every later one, until ctx ends and
// closes the channel. A reader that is 16 events behind misses the oldest.
func (a *Agent) Events(ctx context.Context) <-chan Event { return a.lifecycle.subscribe(ctx) }

// Active is closed once this process is the one in charge: right after the
// start, but in a successor only at commit. What must not happen twice on a
// host begins here.
func (a *Agent) Active() <-chan struct{} { return a.upgrader.Active() }

// Health is the agent's monitor, for further checks.
func (a *Agent) Health() *health.Monitor { return a.health }

// Logger is Config.Logger as New has made it; see the function Logger.
func (a *Agent) Logger() *slog.Logger { return a.log }

// Plugins is the agent's plugin manager; nil if it has none.
func (a *Agent) Plugins() *plugin.Manager { return a.plugins }

// Request asks this agent for an upgrade, a rollback or another action of
// package upgrade from within the program, as an order in etcd does from
// outside; see upgrade.Upgrader.Request. It returns at once; Upgrades tells
// what becomes of it, by r.ID. One that no agent could perform is an error.
// Set r.Remote where the program only passes on what somebody else asks for.
//
// The newest request wins. An order of the registry that waits for its turn is
// replaced in this process, and taken up again by the next one.
func (a *Agent) Request(r upgrade.Request) error {
	if err := checkRequest(r); err != nil {
		return fmt.Errorf("agent: the request %w", err)
	}
	a.upgrader.Request(r)
	return nil
}

// Upgrades is what the agent knows of its releases.
func (a *Agent) Upgrades() upgrade.Status { return a.upgrader.Status() }
