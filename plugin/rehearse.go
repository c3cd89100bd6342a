package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
)

// Rehearse connects to every plugin that another Manager with the same
// Config.StateDir runs, asks it what it is and how it is, and disconnects. An
// error tells that this host could not go on with a plugin although that one
// lives: its successor had better not be this program. It changes nothing, may
// be called before Run, and takes at most Config.HealthTimeout and a moment.
//
// A plugin that reports a problem is no error, nor is one that ends meanwhile.
// Where plugins do not outlive their host (anywhere but on Linux) there is
// nothing to rehearse.
func (m *Manager) Rehearse(ctx context.Context) error {
	if m.cfg.Dir == "" {
		return nil
	}
	names, err := m.launcher.records.list()
	if err != nil {
		return fmt.Errorf("plugin: rehearsal: %w", err)
	}
	if len(names) == 0 {
		return nil
	}
	id, err := chargeID(m.cfg.StateDir)
	if err != nil {
		return fmt.Errorf("plugin: rehearsal: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.HealthTimeout)
	defer cancel()
	errs := make([]error, len(names))
	var each sync.WaitGroup
	for n, name := range names {
		each.Go(func() { errs[n] = m.launcher.rehearse(ctx, id, name) })
	}
	each.Wait()
	return errors.Join(errs...)
}

func (l *launcher) rehearse(ctx context.Context, charge, name string) error {
	r, err := l.records.read(name)
	if err == nil && (r.Charge != charge || !ours(r.PID, r.Started, r.home())) {
		return nil // it would not be taken over, and is no plugin of the incumbent's
	}
	if err == nil {
		err = l.try(ctx, r)
	}
	if err == nil {
		return nil
	}
	now, gone := l.records.read(name)
	if errors.Is(gone, fs.ErrNotExist) || r != nil && (gone != nil || now.PID != r.PID || !alive(r.PID, r.Started)) {
		return nil //nolint:nilerr // it ended, or was replaced
	}
	return fmt.Errorf("plugin %s runs, and this host could not go on with it: %w", name, err)
}

// try does with the process of r what adopt would.
func (l *launcher) try(ctx context.Context, r *record) error {
	b, err := l.recorded(r)
	if err != nil {
		return err
	}
	if err := b.manifest.fits(l.cfg.HostVersion); err != nil {
		return err
	}
	i := l.instance(ctx, b, l.cfg.Logger)
	defer i.cancel()
	if i.link, err = relink(ctx, visit(r), r); err != nil {
		return err
	}
	defer i.link.close()
	if err := i.identify(ctx); err != nil {
		return err
	}
	if _, err := i.link.attach(ctx, l.cfg.HostVersion); err != nil {
		return fmt.Errorf("attach: %w", plain(err))
	}
	_, err = i.health(ctx)
	return err
}

// visit is a view of the process of r that leaves it alone.
func visit(r *record) *process {
	return &process{cfg: processConfig{name: r.Name, dir: r.home()}, exited: make(chan struct{}), leader: r.PID, begun: r.Started, detached: true}
}
