package plugin

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// maxReasonBytes bounds the reason of Disable: it is published.
const maxReasonBytes = 1024

// Restart puts a new generation of the same files in charge of the plugin
// name: once it is healthy, new calls go to it and the old one is drained. A
// plugin that backs off or is quarantined is started at once, its failures
// forgotten. It returns when the new generation is in charge, or the reason
// why it is not; the old one then works on. If ctx ends first, the restart
// goes on.
//
// Errors: ErrNotFound; ErrDisabled; ErrNotRunning while Run does not run;
// ctx's; else what went wrong.
func (m *Manager) Restart(ctx context.Context, name string) error {
	w, known := m.find(name)
	if !known {
		return fmt.Errorf("%w: %q", ErrNotFound, name)
	}
	if a, off := m.disabled.get(name); off {
		return fmt.Errorf("%w: %s, %s; enable it first", ErrDisabled, name, a)
	}
	if w == nil {
		return fmt.Errorf("%w: %s", ErrNotRunning, name)
	}
	o := order{done: make(chan error, 1)}
	select {
	case w.orders <- o:
	case <-w.ctx.Done():
		return fmt.Errorf("%w: %s is being stopped", ErrNotRunning, name)
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-o.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Disable stops the plugin name, after its calls have drained, and keeps it
// stopped, also when its files change and when the host is started again,
// until Enable. The reason, at most 1 KiB of one line, is shown to whoever
// asks why. It is on disk, and List says it, when Disable returns; the process
// may end later. Disabling again replaces the reason.
//
// Errors: ErrNotFound; a reason that cannot be used; a disk that fails.
func (m *Manager) Disable(name, reason string) error {
	if reason == "" || len(reason) > maxReasonBytes || strings.ContainsFunc(reason, func(r rune) bool { return r < ' ' }) {
		return fmt.Errorf("plugin: disable %s: want a reason of 1 to %d bytes in one line, found %.80q", name, maxReasonBytes, reason)
	}
	return m.toggle(name, &absence{Reason: reason, Since: time.Now().UTC()})
}

// Enable undoes Disable: the plugin is being started when it returns, its
// failures forgotten. It does nothing to a plugin that is not disabled.
//
// Errors: ErrNotFound; a disk that fails.
func (m *Manager) Enable(name string) error { return m.toggle(name, nil) }

func (m *Manager) toggle(name string, a *absence) error {
	w, known := m.find(name)
	if !known {
		return fmt.Errorf("%w: %q", ErrNotFound, name)
	}
	if err := m.disabled.put(name, a); err != nil {
		return fmt.Errorf("plugin: %s: %w", name, err)
	}
	if w == nil {
		return nil
	}
	w.wake()
	return nil
}

// find returns the worker of name, and whether the name is known at all: what
// is disabled may have no files for now.
func (m *Manager) find(name string) (*worker, bool) {
	m.mu.Lock()
	w := m.workers[name]
	m.mu.Unlock()
	_, off := m.disabled.get(name)
	return w, w != nil || off
}

// LogFiles returns the files that hold what the plugin name wrote to its
// standard output and error, the newest first; none if there are none yet.
func (m *Manager) LogFiles(name string) []string {
	if !ValidName(name) || m.cfg.StateDir == "" {
		return nil
	}
	return m.launcher.logs.paths(name)
}
