package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// freshFor is how long after a change a file's times cannot be trusted to
// tell of the next one.
const freshFor = time.Second

// view is what the scan remembers of one plugin's files.
type view struct {
	judged string // print of the files of the last finding that is final
	doubt  string // print of the files that could not be used once
	sha    string // of the bundle offered last
}

// scanLoop looks at the directory until ctx ends, then joins the workers. It
// gives c up as soon as none of them looks after a plugin any more.
func (m *Manager) scanLoop(ctx context.Context, c *charge) {
	var running sync.WaitGroup
	defer running.Wait()
	defer c.release()
	defer m.charges.Wait()
	views := map[string]*view{}
	for _, a := range m.adoptAll(ctx) {
		// Without a finding yet: the first scan judges its files, or finds
		// that they are gone.
		views[a.record.Name] = &view{sha: a.record.Digest}
		m.mu.Lock()
		m.employ(ctx, a.record.Name, &running, func(w *worker) { w.inherit(a) })
		m.mu.Unlock()
	}
	tick := time.NewTicker(m.cfg.ScanEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		changed, err := m.scan(ctx, views, &running)
		if err != nil {
			// An unreadable directory is no reason to stop what runs.
			m.cfg.Logger.Warn("plugins directory cannot be read; what runs stays", "error", err)
		} else if changed || first {
			m.collect(views)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// scan compares the directory with what is known and tells the workers.
func (m *Manager) scan(ctx context.Context, views map[string]*view, running *sync.WaitGroup) (changed bool, err error) {
	if err := checkDir(m.cfg.Dir); err != nil {
		return false, err
	}
	entries, err := os.ReadDir(m.cfg.Dir)
	if err != nil {
		return false, err
	}
	present := map[string]bool{}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ManifestSuffix)
		if !ok || strings.HasPrefix(e.Name(), atomicfile.TempPrefix) {
			continue
		}
		present[name] = true
		if m.look(ctx, name, views, running) {
			changed = true
		}
	}
	for name := range views {
		if !present[name] && m.gone(name, views) {
			changed = true
		}
	}
	return changed, nil
}

// look judges one plugin if its files have changed.
func (m *Manager) look(ctx context.Context, name string, views map[string]*view, running *sync.WaitGroup) bool {
	v := views[name]
	if !ValidName(name) {
		// No worker: what List names must be fit for a key or a path.
		if v == nil {
			views[name] = &view{}
			m.cfg.Logger.Error("plugin refused: the file's name wants 1 to 63 of a-z, 0-9 and inner hyphens before the suffix; rename it", "file", name+ManifestSuffix)
		}
		return false
	}
	w := m.worker(ctx, name, running)
	if w == nil {
		return false // still stopping; the next scan begins anew
	}
	if v == nil {
		v = &view{}
		views[name] = v
	}
	print, fresh := m.print(name)
	if print == v.judged {
		return false
	}
	b, err := m.read(name)
	if b != nil {
		b.print = print
		v.sha = b.manifest.SHA256
	}
	f := finding{bundle: b, problem: err, pending: err != nil && v.doubt != print}
	switch {
	case f.pending:
		v.doubt, v.judged = print, ""
	case fresh:
		v.judged = ""
	default:
		v.judged = print
	}
	w.offer(f)
	return true
}

// gone tells the worker of a plugin whose manifest has vanished, the second
// time in a row: replacing a file by deleting it first is common.
func (m *Manager) gone(name string, views map[string]*view) bool {
	v := views[name]
	const missing = "missing"
	if v.doubt != missing {
		v.doubt, v.judged = missing, ""
		return false
	}
	m.mu.Lock()
	w := m.workers[name]
	m.mu.Unlock()
	delete(views, name)
	if w != nil {
		w.stop()
	}
	return true
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
	h := newHandover(func() bool { return ctx.Err() != nil && m.detached.Load() }, m.charges.Done)
	w := newWorker(name, &m.launcher, m.disabled, h, m.notify)
	w.ctx, w.stop = context.WithCancel(ctx)
	prepare(w)
	m.workers[name] = w
	running.Go(func() {
		defer w.stop()
		w.run(w.ctx)
		if ctx.Err() == nil {
			m.mu.Lock()
			delete(m.workers, name)
			m.mu.Unlock()
			m.notify()
		}
	})
	return w
}

// print describes both files as stat sees them, and reports whether one
// changed so recently that a further change might not show.
func (m *Manager) print(name string) (print string, fresh bool) {
	var b strings.Builder
	for _, path := range []string{m.manifestPath(name), m.executablePath(name)} {
		fi, err := os.Stat(path)
		if err != nil {
			fmt.Fprintf(&b, "%v;", err)
			continue
		}
		fmt.Fprintf(&b, "%d %d %s %s;", fi.Size(), fi.ModTime().UnixNano(), fi.Mode(), inode(fi))
		age := time.Since(fi.ModTime())
		fresh = fresh || age < freshFor && age > -freshFor
	}
	return b.String(), fresh
}

// read checks a pair and puts its executable into the depot.
func (m *Manager) read(name string) (*bundle, error) {
	path := m.manifestPath(name)
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if writableByAll(fi) {
		return nil, fmt.Errorf("%w: %s: everybody can write to it (mode %s); chmod o-w it", ErrManifest, path, fi.Mode())
	}
	data, err := readBounded(path, maxManifestBytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	exe := m.executablePath(name)
	b, err := newBundle(data, exe)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	manifest := &b.manifest
	if manifest.Name != name {
		return nil, fmt.Errorf("%s: %w: name: want %q, as the file is called, found %q; rename one of them", path, ErrManifest, name, manifest.Name)
	}
	if err := manifest.fits(m.cfg.HostVersion); err != nil {
		return nil, err
	}
	if err := m.launcher.depot.admit(exe, manifest.SHA256); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: wanted the executable of %s %s there, found nothing; copy it beside its manifest", exe, name, manifest.Version)
		}
		return nil, err
	}
	return b, nil
}

func (m *Manager) manifestPath(name string) string {
	return filepath.Join(m.cfg.Dir, name+ManifestSuffix)
}

func (m *Manager) executablePath(name string) string {
	return filepath.Join(m.cfg.Dir, ExecutableName(name))
}

// collect deletes copies of executables that nothing refers to.
func (m *Manager) collect(views map[string]*view) {
	keep := map[string]bool{}
	for _, v := range views {
		if v.sha != "" {
			keep[v.sha] = true
		}
	}
	m.mu.Lock()
	for _, w := range m.workers {
		for _, sum := range w.keeps() {
			keep[sum] = true
		}
	}
	m.mu.Unlock()
	if err := m.launcher.depot.collect(keep); err != nil {
		m.cfg.Logger.Warn("old copies of plugins could not be removed", "error", err)
	}
}
