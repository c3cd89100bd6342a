package plugin

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// pollEvery is the time between two looks where changes are not told; freshFor
// is how long after a change a file's times cannot be trusted to tell of the
// next one there.
const (
	pollEvery = 2 * time.Second
	freshFor  = time.Second
)

// view is what the scan remembers of one plugin's files.
type view struct {
	judged string    // print of the files of the last finding that is final
	doubt  string    // print of the files when they could not be used first,
	since  time.Time // and when that was
	bundle *bundle
}

// settled reports whether the files are in doubt with that print for long
// enough: what is being copied, or replaced by deleting it first, changes.
func (v *view) settled(print string, settle time.Duration) bool {
	if v.doubt != print {
		v.doubt, v.since, v.judged = print, time.Now(), ""
		return false
	}
	return time.Since(v.since) >= settle
}

// missing stands for the print of a manifest that has vanished.
const missing = "missing"

// scanner looks at the directory. It has one goroutine, but for look, which
// several run, each for another plugin.
type scanner struct {
	*Manager
	views   map[string]*view
	odd     map[string]bool // names that no plugin can have, told of already
	running sync.WaitGroup
	watched bool   // changes are told
	failure string // why the directory cannot be read, said once
}

// sweepLast ends what a predecessor left that was killed while it drained: it had
// not ended yet when this host began, and no host may come after this one.
func (m *Manager) sweepLast() {
	if !m.detached.Load() {
		m.rooms.sweep(nil)
	}
}

// scanLoop goes on with what an earlier host has left and looks at the
// directory until ctx ends, then joins the workers. It gives c up as soon as
// none of them looks after a plugin any more.
func (m *Manager) scanLoop(ctx context.Context, c *charge) {
	s := &scanner{Manager: m, views: map[string]*view{}, odd: map[string]bool{}}
	defer s.running.Wait()
	defer c.release()
	defer m.sweepLast()
	defer m.charges.Wait()
	for _, a := range m.adoptAll(ctx) {
		// Not judged yet: the first look tells whether its files are newer, or
		// gone.
		s.views[a.record.Name] = &view{bundle: a.instance.bundle}
		m.mu.Lock()
		m.employ(ctx, a.record.Name, &s.running, func(w *worker) { w.inherit(a) })
		m.mu.Unlock()
	}
	w := newWatch(m.cfg.Dir, m.cfg.Logger)
	defer w.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for first := true; ; {
		var c changes
		select {
		case c = <-w.told:
			if c.lost {
				w.at = nil
			}
		case <-timer.C:
			s.reverify()
		case <-ctx.Done():
			return
		}
		timer.Reset(s.once(ctx, w, c, first))
		first = false
	}
}

// once looks at the directory and returns the time until the next look.
func (s *scanner) once(ctx context.Context, w *watch, c changes, first bool) time.Duration {
	result, err := s.scan(ctx, w, c)
	switch {
	case err == nil:
		s.failure = ""
	case s.failure != err.Error():
		// An unreadable directory is no reason to stop what runs.
		s.failure = err.Error()
		s.cfg.Logger.Warn("plugins directory cannot be read; what runs stays", "error", err)
	}
	if err == nil && (result.changed || first) {
		s.collect()
	}
	every := s.cfg.ScanEvery
	if !s.watched {
		every = min(every, pollEvery)
	}
	if result.doubt {
		every = min(every, s.cfg.Settle)
	}
	return every
}

// looked is what came of a look.
type looked struct {
	changed bool // a worker was told something
	doubt   bool // it must be looked at again soon
}

func (l *looked) add(other looked) {
	l.changed = l.changed || other.changed
	l.doubt = l.doubt || other.doubt
}

// scan compares the directory with what is known and tells the workers.
func (s *scanner) scan(ctx context.Context, w *watch, c changes) (looked, error) {
	var all looked
	s.watched = false
	d, err := openDirectory(s.cfg.Dir)
	if err != nil {
		return all, err
	}
	defer func() { _ = d.close() }()
	// First of all: a change after the listing must be told.
	s.watched = w.follow(d.info)
	names, err := s.names(d)
	if err != nil {
		return all, err
	}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(max(runtime.GOMAXPROCS(0), 2)) // a look may hash, and waits for the disk
	for _, name := range names {
		v := s.views[name]
		if v == nil {
			v = &view{}
			s.views[name] = v
		}
		if c.names[name] {
			v.judged = ""
		}
		g.Go(func() error {
			got := s.look(ctx, d, name, v)
			mu.Lock()
			defer mu.Unlock()
			all.add(got)
			return nil
		})
	}
	_ = g.Wait() // no look fails
	listed := make(map[string]bool, len(names))
	for _, name := range names {
		listed[name] = true
	}
	for name, v := range s.views {
		if !listed[name] || v.doubt == missing {
			all.add(s.gone(name, v))
		}
	}
	return all, nil
}

// names returns the plugins of which the directory has a file: a manifest or
// an executable.
func (s *scanner) names(d *directory) ([]string, error) {
	entries, err := d.entries()
	if err != nil {
		return nil, err
	}
	seen, linked := map[string]bool{}, map[string]bool{}
	for _, e := range entries {
		if e.Type() == fs.ModeSymlink {
			if target, err := d.root.Readlink(e.Name()); err == nil {
				linked[target] = true
			}
		}
	}
	var names []string
	odd := map[string]bool{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), atomicfile.TempPrefix) {
			continue
		}
		name, isManifest := strings.CutSuffix(e.Name(), ManifestSuffix)
		if !isManifest {
			if linked[e.Name()] || !d.executable(e) {
				continue
			}
			name = pluginOf(e.Name())
		}
		switch {
		case seen[name]:
		case ValidName(name):
			names = append(names, name)
		default:
			odd[e.Name()] = true
			if s.odd[e.Name()] {
				break
			}
			// No worker: what List names must be fit for a key or a path.
			s.cfg.Logger.Error("plugin refused: its name wants 1 to 63 of a-z, 0-9 and inner hyphens; rename the file", "path", e.Name())
		}
		seen[name] = true
	}
	s.odd = odd
	return names, nil
}

// executable reports whether an entry looks like the executable of a plugin,
// and not like something that merely lies there.
func (d *directory) executable(e fs.DirEntry) bool {
	if runtime.GOOS == "windows" {
		return strings.HasSuffix(e.Name(), ".exe")
	}
	_, fi, err := d.resolve(e.Name())
	if err != nil {
		return e.Type() == fs.ModeSymlink && !errors.Is(err, fs.ErrNotExist)
	}
	return fi.Mode().IsRegular() && fi.Mode().Perm()&0o111 != 0
}

// look judges one plugin if its files have changed.
func (s *scanner) look(ctx context.Context, d *directory, name string, v *view) looked {
	print := d.print(name+ManifestSuffix, ExecutableName(name), name+ManifestSuffix+SignatureSuffix)
	if strings.HasPrefix(print, "absent;") && v.bundle != nil {
		v.settled(missing, s.cfg.Settle)
		return looked{}
	}
	w := s.worker(ctx, name, &s.running)
	if w == nil {
		return looked{doubt: ctx.Err() == nil} // still stopping; the next look begins anew
	}
	if print == v.judged {
		return looked{}
	}
	began := time.Now()
	b, err := s.judge(d, name)
	b.print = print
	f := finding{bundle: b, problem: err}
	if err != nil {
		f.bundle, f.pending = nil, !v.settled(print, s.cfg.Settle)
	}
	if v.bundle != nil && bytes.Equal(v.bundle.text, b.text) && errors.Is(err, ErrUntrusted) && !f.pending {
		v.bundle, f.withdrawn = nil, true // the very manifest by which it runs
	}
	_, unproved := errors.AsType[*signatureError](err)
	got := looked{changed: true}
	switch {
	case f.pending:
		got.doubt = true
	case unproved, shortage(err), !s.watched && d.fresh(name, began):
		v.judged = "" // the next look may find otherwise
	default:
		v.judged = print
	}
	if err == nil {
		v.doubt, v.bundle = "", b
	}
	w.offer(f)
	return got
}

// fresh reports whether the files changed so shortly before began that a
// further change might not show in their times.
func (d *directory) fresh(name string, began time.Time) bool {
	for _, file := range []string{name + ManifestSuffix, ExecutableName(name)} {
		if _, fi, err := d.resolve(file); err == nil && began.Sub(fi.ModTime()).Abs() < freshFor {
			return true
		}
	}
	return false
}

// gone stops the worker of a plugin whose manifest has vanished for good.
func (s *scanner) gone(name string, v *view) looked {
	if !v.settled(missing, s.cfg.Settle) {
		return looked{doubt: true}
	}
	s.mu.Lock()
	w := s.workers[name]
	s.mu.Unlock()
	delete(s.views, name)
	if w != nil {
		w.stop()
	}
	return looked{changed: true, doubt: true}
}

// reverify looks whether the signatures by which plugins run still count.
func (s *scanner) reverify() {
	if s.cfg.Verify == nil {
		return
	}
	for name, v := range s.views {
		if v.bundle == nil || v.bundle.signature == nil {
			continue
		}
		_, err := s.cfg.Verify(v.bundle.text, v.bundle.signature)
		if !errors.Is(err, ErrUntrusted) {
			continue
		}
		v.bundle, v.judged = nil, ""
		s.mu.Lock()
		w := s.workers[name]
		s.mu.Unlock()
		if w != nil {
			w.offer(finding{problem: &signatureError{name + ManifestSuffix, err}, withdrawn: true})
		}
	}
}

// worker returns the one that looks after name, a new one if need be, or nil
// while an earlier one is stopping.
func (m *Manager) worker(ctx context.Context, name string, running *sync.WaitGroup) *worker {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w := m.workers[name]; w != nil {
		if w.ctx.Err() != nil {
			return nil
		}
		return w
	}
	if ctx.Err() != nil {
		return nil
	}
	return m.employ(ctx, name, running, func(*worker) {})
}

// employ begins a worker for name; m.mu is held.
func (m *Manager) employ(ctx context.Context, name string, running *sync.WaitGroup, prepare func(*worker)) *worker {
	m.charges.Add(1)
	w := newWorker(name, &m.launcher, m.disabled, m.notify)
	w.handover = newHandover(func() bool { return ctx.Err() != nil && m.detached.Load() }, m.charges.Done)
	w.ctx, w.stop = context.WithCancel(ctx)
	w.calls = m.metrics.counts(name, len(m.workers) < maxShown)
	prepare(w)
	m.workers[name] = w
	running.Go(func() {
		defer w.stop()
		w.run(w.ctx)
		if ctx.Err() == nil {
			m.mu.Lock()
			delete(m.workers, name)
			m.metrics.durations.DeleteLabelValues(name)
			m.mu.Unlock()
			m.notify()
		}
	})
	return w
}

// collect deletes copies of executables that nothing refers to.
func (s *scanner) collect() {
	keep := map[string]bool{}
	for _, v := range s.views {
		if v.bundle != nil {
			keep[v.bundle.manifest.SHA256] = true
		}
	}
	s.mu.Lock()
	for _, w := range s.workers {
		for _, sum := range w.keeps() {
			keep[sum] = true
		}
	}
	s.mu.Unlock()
	if err := s.launcher.depot.collect(keep); err != nil {
		s.cfg.Logger.Warn("old copies of plugins could not be removed", "error", err)
	}
}
