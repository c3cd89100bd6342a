package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/perennial-go/perennial/upgrade/rollout"
)

// DriftWatch compares the registry with the pins of its environments, again and
// again. Client, Root and, if it is nil, Agents of cfg are filled in.
func (d *Directory) DriftWatch(cfg rollout.DriftWatchConfig) (*rollout.DriftWatch, error) {
	cfg.Client, cfg.Root = d.client, d.keys.root
	if cfg.Agents == nil {
		cfg.Agents = RolloutFleet(d)
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
	if e.ManifestDigest == "" {
		return p, fmt.Errorf("agent %s cannot be the pattern of a pin: its %s was installed by hand, so that there is no manifest to pin", e.ID, e.Version)
	}
	p.Release.Version, p.Release.Digest = e.Version, e.ManifestDigest
	p.Binaries = map[string]string{e.Platform: e.BinaryDigest}
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

// fleetWide is what the controller that this agent may be shows to Prometheus;
// nil = it stands for no election.
type fleetWide struct{ *rollout.Metrics }

func newFleetWide(r Rollout) *fleetWide {
	if !r.Controller {
		return nil
	}
	return &fleetWide{rollout.NewMetrics(r.Fleet)}
}

// run has control see, and compares what it sees with the pins, until control
// returns, whose error it returns.
func (f *fleetWide) run(ctx context.Context, d *Directory, cfg rollout.ControllerConfig, control func(rollout.ControllerConfig) error) error {
	w, err := rollout.NewDriftWatch(rollout.DriftWatchConfig{
		Client: d.client, Root: d.keys.root, Fleet: cfg.Fleet, Changed: f.Drift, Logger: cfg.Logger,
	})
	if err != nil {
		return err
	}
	told := cfg.Observe
	cfg.Observe = func(o rollout.Observation) {
		f.Observe(o)
		w.Observe(o)
		if told != nil {
			told(o)
		}
	}
	ctx, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop()
	watching.Go(func() { _ = w.Run(ctx) }) // it ends with ctx
	return control(cfg)
}
