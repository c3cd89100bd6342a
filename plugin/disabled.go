package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/strictjson"
)

// maxDisabledBytes bounds the file of the disabled plugins.
const maxDisabledBytes = 1 << 20

// disabled keeps which plugins an operator wants not to run, in a file of the
// state directory: what was switched off for good reason must not come back
// with the next start of the host.
type disabled struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex
	loaded bool
	broken error // the file cannot be read, and is left as it is
	known  map[string]absence
}

// absence says why a plugin is off.
type absence struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

func (a absence) String() string {
	return fmt.Sprintf("since %s: %s", a.Since.UTC().Format(time.RFC3339), a.Reason)
}

// disabledFile is the file's content.
type disabledFile struct {
	Schema  int                `json:"schema"`
	Plugins map[string]absence `json:"plugins"`
}

// load reads the file once; with mu held.
func (d *disabled) load() {
	if d.loaded {
		return
	}
	d.loaded, d.known = true, map[string]absence{}
	data, err := readBounded(d.path, maxDisabledBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var f disabledFile
	if err == nil {
		f, err = parseDisabled(data)
	}
	if err != nil {
		d.broken = fmt.Errorf("%s, which says what plugins are disabled, cannot be used; remove it and disable again what must not run: %w", d.path, err)
		d.log.Error("disabled plugins are not known, none counts as disabled", "error", d.broken)
		return
	}
	d.known = f.Plugins
}

func parseDisabled(data []byte) (disabledFile, error) {
	var f disabledFile
	if err := strictjson.Check(data, 8); err != nil {
		return f, err
	}
	if err := json.Unmarshal(data, &f); err != nil {
		return f, err
	}
	if f.Schema != 1 {
		return f, fmt.Errorf("schema: want 1, found %d", f.Schema)
	}
	if f.Plugins == nil {
		f.Plugins = map[string]absence{}
	}
	return f, nil
}

// get returns why the plugin is off, and whether it is.
func (d *disabled) get(name string) (absence, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.load()
	a, ok := d.known[name]
	return a, ok
}

// put makes name disabled, or enabled if a is nil, on disk before it returns.
func (d *disabled) put(name string, a *absence) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.load()
	if d.broken != nil {
		return d.broken
	}
	next := maps.Clone(d.known)
	if a != nil {
		next[name] = *a
	} else {
		delete(next, name)
	}
	data, err := json.MarshalIndent(disabledFile{Schema: 1, Plugins: next}, "", "  ")
	if err != nil {
		return err
	}
	if err := atomicfile.Write(d.path, append(data, '\n'), 0o600); err != nil {
		return err
	}
	d.known = next
	return nil
}
