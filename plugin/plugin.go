package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/Masterminds/semver/v3"

	"github.com/perennial-go/perennial/internal/tracing"
)

// Manager runs the plugins of one directory. All methods are safe for
// concurrent use.
type Manager struct {
	cfg      Config
	launcher launcher
	tracer   tracing.Tracer
	rooms    *rooms
	disabled *disabled
	metrics  *metrics
	changed  chan struct{}

	detached atomic.Bool
	charges  sync.WaitGroup // workers that look after a plugin

	mu      sync.Mutex
	ran     bool
	workers map[string]*worker
}

// New checks cfg and returns a Manager that does nothing until Run.
func New(cfg Config) (*Manager, error) {
	cfg.Required = slices.Compact(slices.Sorted(slices.Values(cfg.Required)))
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("plugin: %w", err)
	}
	m := &Manager{cfg: cfg, tracer: tracing.New(cfg.TracerProvider, scope), changed: make(chan struct{}, 1), workers: map[string]*worker{}}
	m.metrics = newMetrics(m)
	m.disabled = &disabled{path: filepath.Join(cfg.StateDir, "disabled.json"), log: cfg.Logger}
	m.rooms = &rooms{dir: filepath.Join(cfg.StateDir, "room"), log: cfg.Logger}
	m.launcher = launcher{
		cfg: &m.cfg, depot: &depot{dir: filepath.Join(cfg.StateDir, "run")}, rooms: m.rooms,
		logs:    &logs{dir: filepath.Join(cfg.StateDir, "log"), bytes: cfg.LogBytes, files: cfg.LogFiles},
		records: &records{dir: filepath.Join(cfg.StateDir, "plugins")},
		turns:   make(chan struct{}, maxStarts()),
	}
	return m, nil
}

// Run looks after the plugins until ctx ends, and returns nil once all their
// processes have ended, or have been left as Detach says. It can be called
// once. It first goes on with the plugins that the last Manager of StateDir has
// left running, or that were left by its death.
//
// It fails if StateDir cannot be used. While another Manager is in charge of it,
// it waits, and says so in the log once StopTimeout and a minute have passed.
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
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("plugin: state directory %s: %w", m.cfg.StateDir, err)
	}
	if err != nil {
		return nil //nolint:nilerr // its end was asked for while it waited
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
	c, err := takeCharge(ctx, m.cfg.StateDir, m.cfg.StopTimeout+chargePatience, m.cfg.Logger)
	if err != nil {
		return nil, err
	}
	m.rooms.charge = c.id
	groups, err := findCgroups(m.rooms.dir, m.cfg.Logger)
	if err != nil {
		m.cfg.Logger.Debug("plugins have no cgroups; limits fall back to rlimits", "error", err)
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
