package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Masterminds/semver/v3"
)

// Config says where plugins are and how they are looked after. The zero value
// of every field but StateDir (needed as soon as Dir is set) is usable.
type Config struct {
	// Dir holds the plugins. "" means none: Run then only waits. It must
	// exist, and not everybody may be able to write to it.
	Dir string
	// StateDir is a directory of the host's own, made with mode 0700 if it is
	// absent: verified copies of the executables, sockets, scratch space. Two
	// hosts may share it while one takes over from the other.
	StateDir string
	// HostVersion is the host's complete SemVer version, which manifests put
	// constraints on. With "", a plugin that has a constraint is refused.
	HostVersion string
	// Required names plugins that Ready insists on, whatever their manifests
	// say, present or not.
	Required []string
	// Logger receives the host's side and what plugins write; nil discards.
	Logger *slog.Logger
	// OnChange is called with List after every change of a state, a process or
	// a reason, from one goroutine, changes in quick succession coalesced. It
	// must not block for long: Run waits for it.
	OnChange func([]Status)

	// Verify checks a manifest's signature, the content of a file
	// NAME.plugin.yaml.minisig, before anything in the manifest is looked at,
	// and returns the id of the key. nil means that signatures are not looked
	// at. It is called from several goroutines.
	Verify func(manifest, signature []byte) (keyID string, err error)
	// RequireSigned refuses a plugin without a signature; it needs Verify.
	RequireSigned bool

	// ScanEvery is the time between two looks at Dir; default 2 s.
	ScanEvery time.Duration
	// StartTimeout bounds a start until the plugin is healthy; default 10 s.
	StartTimeout time.Duration
	// StopTimeout bounds the orderly end of a process, after which its group
	// is killed; default 5 s.
	StopTimeout time.Duration
	// DrainTimeout is what calls that are not Resumable get to finish on a
	// generation that is replaced, before it is stopped; default 30 s.
	DrainTimeout time.Duration
	// DetachTimeout is what calls in flight get to finish when Run ends after
	// Detach; default 30 s.
	DetachTimeout time.Duration
	// OrphanAfter is how long a plugin lives without a host; default 60 s.
	OrphanAfter time.Duration
	// LogBytes is the size at which a plugin's log file is rotated, and
	// LogFiles how many are kept, the current one included; defaults 10 MiB
	// and 3.
	LogBytes int64
	LogFiles int
	// HealthEvery is the time between two health checks; default 10 s.
	HealthEvery time.Duration
	// HealthTimeout bounds one. Two in a row without an answer get the plugin
	// killed and restarted; default 5 s.
	HealthTimeout time.Duration
	// BackoffMin and BackoffMax bound the wait before a restart, which doubles
	// and is jittered; defaults 1 s and 2 min.
	BackoffMin, BackoffMax time.Duration
	// WellAfter is how long a plugin must run for the next wait to be a first
	// one again; default 5 min.
	WellAfter time.Duration
	// CrashLimit deaths or failed starts within CrashWindow put a plugin into
	// quarantine; defaults 5 and 10 min.
	CrashLimit  int
	CrashWindow time.Duration
}

// Manager runs the plugins of one directory. All methods are safe for
// concurrent use.
type Manager struct {
	cfg      Config
	launcher launcher
	rooms    *rooms
	disabled *disabled
	changed  chan struct{}
	detached atomic.Bool
	charges  sync.WaitGroup // workers that look after a plugin

	mu      sync.Mutex
	ran     bool
	workers map[string]*worker
}

// New checks cfg and returns a Manager that does nothing until Run.
func New(cfg Config) (*Manager, error) {
	cfg.Required = slices.Clone(cfg.Required)
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("plugin: %w", err)
	}
	m := &Manager{cfg: cfg, changed: make(chan struct{}, 1), workers: map[string]*worker{}}
	m.disabled = &disabled{path: filepath.Join(cfg.StateDir, "disabled.json"), log: cfg.Logger}
	m.rooms = &rooms{dir: filepath.Join(cfg.StateDir, "room"), log: cfg.Logger}
	m.launcher = launcher{cfg: &m.cfg, depot: &depot{dir: filepath.Join(cfg.StateDir, "run")}, rooms: m.rooms,
		logs:    &logs{dir: filepath.Join(cfg.StateDir, "log"), bytes: cfg.LogBytes, files: cfg.LogFiles},
		records: &records{dir: filepath.Join(cfg.StateDir, "plugins")}}
	return m, nil
}

func (c *Config) setDefaults() {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	for _, d := range c.durations() {
		if *d.value == 0 {
			*d.value = d.preset
		}
	}
	if c.CrashLimit == 0 {
		c.CrashLimit = 5
	}
	if c.LogBytes == 0 {
		c.LogBytes = 10 << 20
	}
	if c.LogFiles == 0 {
		c.LogFiles = 3
	}
}

// duration is a field of Config and its default.
type duration struct {
	name   string
	value  *time.Duration
	preset time.Duration
}

func (c *Config) durations() []duration {
	return []duration{
		{"ScanEvery", &c.ScanEvery, 2 * time.Second},
		{"StartTimeout", &c.StartTimeout, 10 * time.Second},
		{"StopTimeout", &c.StopTimeout, 5 * time.Second},
		{"HealthEvery", &c.HealthEvery, 10 * time.Second},
		{"HealthTimeout", &c.HealthTimeout, 5 * time.Second},
		{"DrainTimeout", &c.DrainTimeout, 30 * time.Second},
		{"DetachTimeout", &c.DetachTimeout, 30 * time.Second},
		{"OrphanAfter", &c.OrphanAfter, time.Minute},
		{"BackoffMin", &c.BackoffMin, time.Second},
		{"BackoffMax", &c.BackoffMax, 2 * time.Minute},
		{"WellAfter", &c.WellAfter, 5 * time.Minute},
		{"CrashWindow", &c.CrashWindow, 10 * time.Minute},
	}
}

func (c *Config) validate() error {
	for _, d := range c.durations() {
		if *d.value < 0 {
			return fmt.Errorf("Config.%s: want a positive duration, found %s", d.name, *d.value)
		}
	}
	if c.BackoffMax < c.BackoffMin {
		return fmt.Errorf("Config.BackoffMax: want at least BackoffMin, %s, found %s", c.BackoffMin, c.BackoffMax)
	}
	if c.CrashLimit < 0 {
		return fmt.Errorf("Config.CrashLimit: want a positive number, found %d", c.CrashLimit)
	}
	if c.LogBytes < 0 || c.LogFiles < 0 {
		return fmt.Errorf("Config.LogBytes and LogFiles: want positive numbers, found %d and %d", c.LogBytes, c.LogFiles)
	}
	if c.RequireSigned && c.Verify == nil {
		return errors.New("Config.RequireSigned needs Config.Verify, or every plugin would be refused")
	}
	if c.HostVersion != "" {
		if _, err := semver.StrictNewVersion(c.HostVersion); err != nil {
			return fmt.Errorf("Config.HostVersion: want a complete SemVer version, found %q: %w", c.HostVersion, err)
		}
	}
	for _, name := range c.Required {
		if !ValidName(name) {
			return fmt.Errorf("Config.Required: %q cannot be a plugin's name", name)
		}
	}
	if c.Dir == "" {
		if len(c.Required) > 0 {
			return fmt.Errorf("Config.Required wants %s, but Config.Dir is not set", strings.Join(c.Required, ", "))
		}
		return nil
	}
	if c.StateDir == "" {
		return errors.New("Config.StateDir is not set; name a directory that belongs to this host alone")
	}
	// Processes run with another working directory.
	for _, dir := range []*string{&c.Dir, &c.StateDir} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return err
		}
		*dir = abs
	}
	return checkDir(c.Dir)
}

// checkDir refuses a directory in which anybody can decide what runs.
func checkDir(dir string) error {
	fi, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("plugins directory %s does not exist; create it, or run without plugins: %w", dir, err)
	}
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return fmt.Errorf("plugins directory %s: want a directory, found %s", dir, fi.Mode())
	}
	if writableByAll(fi) {
		return fmt.Errorf("plugins directory %s: everybody can write to it (mode %s), and what is in it is executed; chmod o-w it", dir, fi.Mode())
	}
	return nil
}

// Run looks after the plugins until ctx ends, and returns nil once all their
// processes have ended, or have been left as Detach says. It can be called
// once. It first goes on with the plugins that the last Manager of StateDir has
// left running, or that were left by its death.
//
// It fails if StateDir cannot be used, and if another Manager is in charge of
// it and does not hand over or end within StopTimeout and a minute.
func (m *Manager) Run(ctx context.Context) error {
	m.mu.Lock()
	again := m.ran
	m.ran = true
	m.mu.Unlock()
	if again {
		return errors.New("plugin: Manager.Run was called twice; make a new Manager")
	}
	if m.cfg.Dir == "" {
		<-ctx.Done()
		return nil
	}
	c, err := m.prepare(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("plugin: state directory %s: %w", m.cfg.StateDir, err)
	}
	var told sync.WaitGroup
	quit := make(chan struct{})
	told.Go(func() { m.tell(quit) })
	told.Go(func() { m.attend(ctx) })
	m.scanLoop(ctx, c)
	close(quit)
	told.Wait()
	return nil
}

// prepare makes the directories and takes charge of them.
func (m *Manager) prepare(ctx context.Context) (*charge, error) {
	for _, dir := range []string{m.cfg.StateDir, m.rooms.dir, m.launcher.depot.dir, m.launcher.logs.dir, m.launcher.records.dir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory
			return nil, err
		}
	}
	c, err := takeCharge(ctx, m.cfg.StateDir, m.cfg.StopTimeout+chargePatience)
	if err != nil {
		return nil, err
	}
	m.rooms.charge = c.id
	groups, err := findCgroups(m.rooms.dir, m.cfg.Logger)
	if err != nil {
		m.cfg.Logger.Debug("plugins have no cgroups; limits fall back to rlimits", "reason", err)
	}
	m.launcher.groups, m.rooms.groups = groups, groups
	return c, nil
}

// tell calls OnChange, and once more at the end.
func (m *Manager) tell(quit <-chan struct{}) {
	if m.cfg.OnChange == nil {
		<-quit
		return
	}
	for {
		select {
		case <-m.changed:
			m.cfg.OnChange(m.List())
		case <-quit:
			m.cfg.OnChange(m.List())
			return
		}
	}
}

func (m *Manager) notify() {
	select {
	case m.changed <- struct{}{}:
	default: // the call that is due will see this change too
	}
}

// List returns the status of every plugin, by name. A required plugin that
// is not there is listed as Refused.
func (m *Manager) List() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Status, 0, len(m.workers))
	for _, w := range m.workers {
		s := w.snapshot()
		s.Required = s.Required || slices.Contains(m.cfg.Required, s.Name)
		all = append(all, s)
	}
	for _, name := range m.cfg.Required {
		if m.workers[name] == nil {
			all = append(all, Status{Name: name, State: Refused, Required: true,
				Reason: fmt.Sprintf("it is required, and there is no %s in %s", name+ManifestSuffix, m.cfg.Dir)})
		}
	}
	slices.SortFunc(all, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Ready returns nil if every required plugin is Running, else an error that
// names those that are not, with their reasons.
func (m *Manager) Ready() error {
	var missing []string
	for _, s := range m.List() {
		if s.Required && s.State != Running {
			missing = append(missing, fmt.Sprintf("%s is %s: %s", s.Name, s.State, s.Reason))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("%w: required plugin %s", ErrNotRunning, strings.Join(missing, "; "))
}

// Compatible returns nil if every loaded plugin accepts a host of that
// version, else an error that wraps ErrIncompatible and names those that do
// not. A plugin that is refused or quarantined has no say.
func (m *Manager) Compatible(hostVersion string) error {
	if _, err := semver.StrictNewVersion(hostVersion); err != nil {
		return fmt.Errorf("plugin: host version %q: want a complete SemVer version: %w", hostVersion, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, w := range m.workers {
		if b := w.loaded(); b != nil {
			errs = append(errs, b.manifest.fits(hostVersion))
		}
	}
	return errors.Join(errs...)
}
