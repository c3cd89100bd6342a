package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// DriftWatch compares the registry with the pins of its environments, again and
// again. Client, Root and, if it is nil, Agents of cfg are filled in.
func (d *Directory) DriftWatch(cfg rollout.DriftWatchConfig) (*rollout.DriftWatch, error) {
	cfg.Client, cfg.Root = d.client, d.keys.root
	if cfg.Agents == nil {
		cfg.Agents = rolloutFleet{directory: d} // whatever plan they follow, or none
	}
	return rollout.NewDriftWatch(cfg)
}

// Drift compares the registry with the pins of its environments once. It waits
// for etcd until ctx ends.
func (d *Directory) Drift(ctx context.Context, cfg rollout.DriftWatchConfig) (rollout.Drift, error) {
	running, stop := context.WithCancel(ctx)
	defer stop()
	var mu sync.Mutex
	var found *rollout.Drift
	var wrong error
	cfg.Changed = func(drift rollout.Drift) {
		mu.Lock()
		defer mu.Unlock()
		if found == nil {
			found = &drift
		}
		stop()
	}
	cfg.Stale = func(err error) {
		mu.Lock()
		defer mu.Unlock()
		wrong = err
	}
	w, err := d.DriftWatch(cfg)
	if err != nil {
		return rollout.Drift{}, err
	}
	_ = w.Run(running) // it ends with its context
	mu.Lock()
	defer mu.Unlock()
	if found == nil {
		if wrong == nil {
			wrong = etcdkv.LastFailure(d.client)
		}
		return rollout.Drift{}, fmt.Errorf("drift: etcd at %s: %w", d.addr, errors.Join(ctx.Err(), wrong))
	}
	return *found, nil
}

// PinOf is what environment is pinned to if e is as it is meant to be: its
// release, its executable for its platform, and its plugins.
func (e *Entry) PinOf(environment string) (rollout.Pin, error) {
	p := rollout.Pin{Environment: environment}
	if e.Error != "" || e.Version == "" {
		return p, fmt.Errorf("agent %s cannot be the pattern of a pin: what it tells cannot be read: %s", e.ID, e.Error)
	}
	if e.Status != nil && e.exchanged(&e.Status.Upgrade) {
		return p, fmt.Errorf("agent %s cannot be the pattern of a pin: the executable that runs (%.12s) is not the one that was installed (%.12s)", e.ID, e.BinaryDigest, e.installed(&e.Status.Upgrade))
	}
	if e.ManifestDigest == "" {
		return p, fmt.Errorf("agent %s cannot be the pattern of a pin: its %s was installed by hand, so that there is no manifest to pin", e.ID, e.Version)
	}
	p.Release.Version, p.Release.Digest = e.Version, e.ManifestDigest
	if e.BinaryDigest != "" {
		p.Binaries = map[string]string{e.Platform: e.BinaryDigest}
	}
	for _, plugin := range e.Plugins {
		if plugin.Digest == "" {
			continue
		}
		if p.Plugins == nil {
			p.Plugins = map[string]string{}
		}
		p.Plugins[plugin.Name] = plugin.Digest
	}
	if e.Status != nil {
		p.Program = e.Status.Upgrade.Program
	}
	return p, nil
}

// RolloutControl is a controller of a fleet's rollouts that also compares the
// fleet with its pins.
type RolloutControl struct {
	controller *rollout.Controller
	drift      *rollout.DriftWatch
}

// RolloutControl makes a RolloutController, and has m show what it sees, and the
// drift that comes of it; see RolloutController for cfg.
func (d *Directory) RolloutControl(cfg rollout.ControllerConfig, m *rollout.Metrics) (*RolloutControl, error) {
	var c RolloutControl
	var err error
	c.drift, err = rollout.NewDriftWatch(rollout.DriftWatchConfig{
		Client: d.client, Root: d.keys.root, Fleet: cfg.Fleet, Changed: m.Drift, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	told := cfg.Observe
	cfg.Observe = func(o rollout.Observation) {
		m.Observe(o)
		c.drift.Observe(o)
		if told != nil {
			told(o)
		}
	}
	c.controller, err = d.RolloutController(cfg)
	return &c, err
}

// Run is that of the controller.
func (c *RolloutControl) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var comparing sync.WaitGroup
	defer comparing.Wait()
	defer stop()
	comparing.Go(func() { _ = c.drift.Run(ctx) }) // it ends with ctx
	return c.controller.Run(ctx)
}
