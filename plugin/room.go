package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// maxSocketPath is what a socket's address may hold on every unix, less the
// names that go-plugin appends to a room's path.
const maxSocketPath = 104 - len("/plugin-dir0123456789/plugin0123456789")

const tenantFile = "tenant.json"

// rooms gives every process a private directory for its socket and its
// scratch files, with a record of who lives there: a host that was killed
// cannot clean up, and the next one does.
type rooms struct {
	dir    string
	log    *slog.Logger
	groups *cgroups
}

// room is one of them.
type room struct {
	dir  string // where the process lives
	note string // directory of the record, the same unless dir had to be short
	log  *slog.Logger
}

// tenant is the record. Hosts of other versions read it: schema 1.
type tenant struct {
	Schema int    `json:"schema"`
	Plugin int    `json:"plugin_pid"`
	Begun  string `json:"plugin_started"`
	Host   int    `json:"host_pid"`
	Since  string `json:"host_started"`
	// Dir is the room when it had to be elsewhere.
	Dir string `json:"dir,omitempty"`
}

func (r *rooms) open(name string) (room, error) {
	note, err := os.MkdirTemp(r.dir, name+"-")
	if err != nil {
		return room{}, err
	}
	got := room{dir: note, note: note, log: r.log}
	if len(note) <= maxSocketPath {
		return got, nil
	}
	if got.dir, err = shortDir(note); err != nil {
		return room{}, errors.Join(err, os.Remove(note))
	}
	return got, nil
}

// shortDir makes a private directory with a path that is short enough for a
// socket, for what would have been tooLong.
func shortDir(tooLong string) (string, error) {
	for _, base := range []string{os.TempDir(), "/tmp"} {
		dir, err := os.MkdirTemp(base, "plugin-")
		if err != nil {
			continue
		}
		if len(dir) <= maxSocketPath {
			return dir, nil
		}
		if err := os.Remove(dir); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("a directory for the plugin's socket may have %d characters, %s has %d and neither %s nor /tmp can be used instead: choose a shorter state directory",
		maxSocketPath, tooLong, len(tooLong), os.TempDir())
}

// occupy records the process. Without a record (a full disk, or a system that
// does not tell start times) the plugin still ends with the host's pipe.
func (r room) occupy(pid int) {
	t := tenant{Schema: 1, Plugin: pid, Host: os.Getpid()}
	if r.dir != r.note {
		t.Dir = r.dir
	}
	var err, herr error
	t.Begun, err = identify(pid)
	t.Since, herr = identify(t.Host)
	if err = errors.Join(err, herr); errors.Is(err, errors.ErrUnsupported) || errors.Is(err, os.ErrProcessDone) {
		return
	}
	data, merr := json.Marshal(t)
	if err = errors.Join(err, merr); err == nil {
		err = atomicfile.Write(filepath.Join(r.note, tenantFile), data, 0o600)
	}
	if err != nil {
		r.log.Warn("plugin process could not be recorded", "pid", pid, "error", err)
	}
}

func (r room) close() {
	if r.note == "" {
		return
	}
	if err := errors.Join(os.RemoveAll(r.dir), os.RemoveAll(r.note)); err != nil {
		r.log.Warn("plugin directory could not be removed", "dir", r.note, "error", err)
	}
}

// sweep ends the plugins that a dead host left and clears their rooms. Those
// of a host that lives, as the incumbent of a swap does, are left alone.
func (r *rooms) sweep() {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		r.log.Warn("plugin directories could not be listed", "error", err)
		return
	}
	for _, e := range entries {
		dir := filepath.Join(r.dir, e.Name())
		t, err := readTenant(dir)
		if errors.Is(err, fs.ErrNotExist) {
			// Nothing was started, or it cannot be told what: with no host's
			// name on it the directory may be in use. One without a socket
			// inside is not.
			err = os.Remove(dir)
		}
		switch {
		case err != nil:
			r.log.Warn("plugin directory of an earlier host is left", "dir", dir, "error", err)
		case t != nil && !alive(t.Host, t.Since):
			r.evict(dir, t)
		}
	}
}

func readTenant(dir string) (*tenant, error) {
	data, err := readBounded(filepath.Join(dir, tenantFile), 64<<10)
	if err != nil {
		return nil, err
	}
	var t tenant
	if err := json.Unmarshal(data, &t); err != nil {
		return nil, err
	}
	if t.Schema != 1 {
		return nil, fmt.Errorf("schema: want 1, found %d", t.Schema)
	}
	return &t, nil
}

func (r *rooms) evict(dir string, t *tenant) {
	if t.Plugin > 1 && alive(t.Plugin, t.Begun) {
		r.log.Warn("killing a plugin that outlived its host", "pid", t.Plugin)
		if err := killProcess(t.Plugin); err != nil {
			r.log.Warn("plugin of an earlier host could not be killed", "pid", t.Plugin, "error", err)
			return
		}
	}
	left := room{dir: dir, note: dir, log: r.log}
	// Only a directory of the form that open makes is removed elsewhere.
	if t.Dir != "" && filepath.Dir(t.Dir) == filepath.Clean(os.TempDir()) {
		left.dir = t.Dir
	}
	r.groups.clear(left.dir)
	endStrays(left.dir)
	left.close()
}

func alive(pid int, started string) bool {
	now, err := identify(pid)
	return err == nil && now == started
}
