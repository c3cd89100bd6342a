package plugin

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// A change is told once nothing has changed for watchQuiet, and after
// watchPatience at the latest: a copy is many changes.
const (
	watchQuiet    = 100 * time.Millisecond
	watchPatience = 2 * time.Second
)

// changes is what has changed in the directory, as far as the system tells.
type changes struct {
	// names are those of the plugins whose files were written.
	names map[string]bool
	// lost means that the directory itself was moved or removed.
	lost bool
}

// watch tells of changes in one directory. Its methods have one caller.
type watch struct {
	path   string
	log    *slog.Logger
	told   chan changes
	quit   chan struct{}
	reader sync.WaitGroup

	system *fsnotify.Watcher // nil while the system has none for us
	at     fs.FileInfo       // the directory that is watched, nil if none
	reason string            // why none is, said once
}

func newWatch(path string, log *slog.Logger) *watch {
	return &watch{path: path, log: log, told: make(chan changes), quit: make(chan struct{})}
}

// follow makes sure that what lies at the path now is what is watched, and
// reports whether it is. A directory that was replaced must be watched anew.
func (w *watch) follow(now fs.FileInfo) bool {
	if w.at != nil && os.SameFile(w.at, now) {
		return true
	}
	w.at = nil
	err := w.begin()
	if err == nil {
		err = w.system.Add(w.path)
	}
	if err != nil {
		if w.reason != err.Error() {
			w.reason = err.Error()
			w.log.Warn("plugins directory cannot be watched; it is looked at every now and then", "path", w.path, "error", err)
		}
		return false
	}
	w.at, w.reason = now, ""
	return true
}

// begin makes the system's watcher, or has an old one watch nothing.
func (w *watch) begin() error {
	if w.system != nil {
		if err := w.system.Remove(w.path); err != nil && !errors.Is(err, fsnotify.ErrNonExistentWatch) {
			return err
		}
		return nil
	}
	system, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	w.system = system
	w.reader.Go(func() { w.read(system) })
	return nil
}

// close ends the watch and joins its goroutine.
func (w *watch) close() {
	close(w.quit)
	if w.system != nil {
		_ = w.system.Close()
	}
	w.reader.Wait()
}

// read collects changes until they can be told.
func (w *watch) read(system *fsnotify.Watcher) {
	var got changes
	var first time.Time
	due := time.NewTimer(time.Hour)
	due.Stop()
	defer due.Stop()
	var tell chan changes // nil until it is time
	note := func() {
		if first.IsZero() {
			first = time.Now()
		}
		due.Reset(max(min(watchQuiet, watchPatience-time.Since(first)), 0))
	}
	for {
		select {
		case e, ok := <-system.Events:
			if !ok {
				return
			}
			if got.add(w.path, e) {
				note()
			}
		case _, ok := <-system.Errors:
			if !ok {
				return
			}
			note() // what was lost shows when the directory is looked at
		case <-due.C:
			tell = w.told
		case tell <- got:
			got, first, tell = changes{}, time.Time{}, nil
			due.Stop()
		case <-w.quit:
			return
		}
	}
}

// add takes note of an event in dir and reports whether it matters.
func (c *changes) add(dir string, e fsnotify.Event) bool {
	if filepath.Clean(e.Name) == dir {
		c.lost = c.lost || e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename)
		return true
	}
	base := filepath.Base(e.Name)
	if strings.HasPrefix(base, atomicfile.TempPrefix) {
		return false
	}
	if e.Op != fsnotify.Chmod { // which shows in the file's print
		if c.names == nil {
			c.names = map[string]bool{}
		}
		c.names[pluginOf(base)] = true
	}
	return true
}

// pluginOf is the plugin to which a file of that name would belong.
func pluginOf(base string) string {
	base = strings.TrimSuffix(base, SignatureSuffix)
	base = strings.TrimSuffix(base, ManifestSuffix)
	return strings.TrimSuffix(base, ".exe")
}
