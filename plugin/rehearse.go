package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"
)

// Rehearse connects to every plugin that another Manager with the same
// Config.StateDir runs, asks it what it is and how it is, and disconnects. An
// error tells that this host could not go on with a plugin although that one
// works: its successor had better not be this program. It changes nothing, may
// be called before Run, and takes at most Config.HealthTimeout, or three
// quarters of what ctx leaves, and a moment.
//
// A plugin that hangs is no error: it would hang under any host, and whoever is
// in charge deals with it. So one that gives no answer is logged as a warning if
// its process is stopped, if it has told this host what it is before it fell
// silent, or if another plugin has: this host can talk to plugins then. Where
// none of them answers it is an error, which passes once the host in charge has
// restarted what does not answer that one either. A plugin that reports a
// problem is no error, nor is one that ends meanwhile.
//
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
	limit := m.cfg.HealthTimeout
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end)*3/4) // the caller wants to hear of it
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	all := make([]rehearsal, len(names))
	var each sync.WaitGroup
	for n, name := range names {
		each.Go(func() { all[n] = m.launcher.rehearse(ctx, id, name) })
	}
	each.Wait()
	return m.assess(all)
}

// rehearsal is how it went with one plugin.
type rehearsal struct {
	name    string
	talked  bool // it has told what it is
	silent  bool // err is no more than that no answer came
	stopped bool // and none could
	err     error
}

func (r rehearsal) state() string {
	if r.stopped {
		return "stopped"
	}
	return "silent"
}

// assess tells plugins that hang from a host that cannot talk to them.
func (m *Manager) assess(all []rehearsal) error {
	talks := slices.ContainsFunc(all, func(r rehearsal) bool { return r.talked })
	var errs []error
	for _, r := range all {
		switch {
		case r.err == nil:
		case r.stopped, r.silent && talks:
			m.cfg.Logger.Warn("plugin gives no answer to a host that is to go on with it: it is restarted then, unless it has recovered", "plugin", r.name, "state", r.state(), "error", r.err)
		default:
			errs = append(errs, fmt.Errorf("plugin %s runs, and this host could not go on with it: %w", r.name, r.err))
		}
	}
	return errors.Join(errs...)
}

func (l *launcher) rehearse(ctx context.Context, charge, name string) rehearsal {
	r, err := l.records.read(name)
	if err == nil && (r.Charge != charge || !ours(r.PID, r.Started, r.home())) {
		return rehearsal{} // it would not be taken over, and is no plugin of the incumbent's
	}
	told := rehearsal{name: name}
	if err == nil {
		told.talked, err = l.try(ctx, r)
	}
	if err == nil {
		return told
	}
	now, gone := l.records.read(name)
	if errors.Is(gone, fs.ErrNotExist) || r != nil && (gone != nil || now.PID != r.PID || !alive(r.PID, r.Started)) {
		return told // it ended, or was replaced
	}
	told.err = err
	told.silent = errors.Is(err, context.DeadlineExceeded)
	told.stopped = told.silent && stopped(r.PID)
	return told
}

// try does with the process of r what adopt would, and tells whether it has
// said what it is.
func (l *launcher) try(ctx context.Context, r *record) (talked bool, err error) {
	b, err := l.recorded(r)
	if err != nil {
		return false, err
	}
	if err := b.manifest.fits(l.cfg.HostVersion); err != nil {
		return false, err
	}
	i := l.instance(ctx, b, l.cfg.Logger)
	defer i.cancel()
	if i.link, err = relink(ctx, visit(r), r); err != nil {
		return false, err
	}
	defer i.link.close()
	if err := i.identify(ctx); err != nil {
		return false, err
	}
	if _, err := i.link.attach(ctx, l.cfg.HostVersion); err != nil {
		return true, fmt.Errorf("attach: %w", plain(err))
	}
	_, err = i.health(ctx)
	return true, err
}

// visit is a view of the process of r that leaves it alone.
func visit(r *record) *process {
	return &process{cfg: processConfig{name: r.Name, dir: r.home()}, exited: make(chan struct{}), leader: r.PID, begun: r.Started, detached: true}
}
