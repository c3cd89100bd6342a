package plugin

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/strictjson"
)

// maxSocketPath is what a socket's address may hold on every unix, less the
// names that go-plugin appends to a room's path.
const maxSocketPath = 104 - len("/plugin-dir0123456789/plugin0123456789")

const tenantFile = "tenant.json"

// shortPrefix begins the name of a room that had to be elsewhere.
const shortPrefix = "plugin-"

// rooms gives every process a private directory for its socket and its
// scratch files, with a record of who lives there: a host that was killed
// cannot clean up, and the next one does.
type rooms struct {
	dir    string
	charge string
	groups *cgroups
	log    *slog.Logger
}

// room is one of them.
type room struct {
	dir  string // where the process lives
	note string // directory of the record, the same unless dir had to be short
	log  *slog.Logger
}

// tenant is the record. Hosts of other versions read it: schema 1.
type tenant struct {
	Schema int `json:"schema"`
	// Host is who looks after the room, Since when that process began, ""
	// where that cannot be told.
	Host  int    `json:"host_pid"`
	Since string `json:"host_started,omitempty"`
	// Charge is that of the state directory: a copy of it has another.
	Charge string `json:"charge,omitempty"`
	// Dir is where the process lives if that had to be elsewhere.
	Dir string `json:"dir,omitempty"`
}

func (r *rooms) open(name string) (room, error) {
	note, err := os.MkdirTemp(r.dir, name+"-")
	if err != nil {
		return room{}, err
	}
	got := room{dir: note, note: note, log: r.log}
	if len(note) > maxSocketPath {
		if got.dir, err = shortDir(note); err != nil {
			return room{}, errors.Join(err, os.Remove(note))
		}
	}
	if err := got.occupy(r.charge); err != nil {
		got.close()
		return room{}, err
	}
	return got, nil
}

// shortDir makes a private directory with a path that is short enough for a
// socket, for what would have been tooLong.
func shortDir(tooLong string) (string, error) {
	for _, base := range []string{os.TempDir(), "/tmp"} {
		dir, err := os.MkdirTemp(base, shortPrefix+"*")
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

// occupy says that this host looks after the room. It comes before there is a
// process: whatever then is killed, the next host knows what to do with it.
func (r room) occupy(charge string) error {
	t := tenant{Schema: 1, Host: os.Getpid(), Charge: charge}
	if r.dir != r.note {
		t.Dir = r.dir
	}
	var err error
	if t.Since, err = identify(t.Host); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return atomicfile.Replace(filepath.Join(r.note, tenantFile), data, 0o600)
}

func (r room) close() {
	if r.note == "" {
		return
	}
	if err := errors.Join(os.RemoveAll(r.dir), os.RemoveAll(r.note)); err != nil {
		r.log.Warn("plugin directory could not be removed", "path", r.note, "error", err)
	}
}

// sweep clears the rooms that dead hosts have left, but for those in keep, and
// ends what still lives there. Those of a host that lives, as the predecessor
// in a swap that still drains, are left alone.
func (r *rooms) sweep(keep map[string]bool) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		r.log.Warn("plugin directories could not be listed", "error", err)
		return
	}
	for _, e := range entries {
		dir := filepath.Join(r.dir, e.Name())
		if keep[dir] {
			continue
		}
		t, err := readTenant(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			room{dir: dir, note: dir, log: r.log}.close() // nothing was started yet
		case err != nil:
			r.log.Warn("plugin directory of an earlier host is left", "path", dir, "error", err)
		case !alive(t.Host, t.Since):
			r.evict(dir, t)
		}
	}
}

func readTenant(dir string) (*tenant, error) {
	data, err := readBounded(filepath.Join(dir, tenantFile), 64<<10)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return nil, fmt.Errorf("%s: %w: a power cut left it empty, and no process", dir, fs.ErrNotExist)
	}
	if err := strictjson.Check(data, 2); err != nil {
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

// tenanted checks that the process of the room at note lives in home.
func (r *rooms) tenanted(note, home string) error {
	t, err := readTenant(note)
	if err != nil {
		return err
	}
	if want := cmp.Or(t.Dir, note); want != home || t.Charge != r.charge {
		return fmt.Errorf("want a process in %s under charge %s, found one in %s under %s", want, t.Charge, home, r.charge)
	}
	return nil
}

func (r *rooms) evict(dir string, t *tenant) {
	left := room{dir: dir, note: dir, log: r.log}
	// A copy of a state directory says nothing about what lives elsewhere, and
	// only a directory of the form that open makes is removed there.
	if t.Charge == r.charge {
		if strings.HasPrefix(filepath.Base(t.Dir), shortPrefix) {
			left.dir = t.Dir
		}
		r.groups.clear(left.dir)
		endStrays(left.dir)
	}
	left.close()
}

func alive(pid int, started string) bool {
	now, err := identify(pid)
	return err == nil && now == started
}
