package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/strictjson"
)

// maxRecordBytes bounds a record: the manifest is in it, with escapes.
const maxRecordBytes = 8 * maxManifestBytes

const recordSuffix = ".json"

// record is what it takes to go on with a plugin's process: it is written when
// the process is put in charge, and removed before it is told to stop or when it
// has ended. Other releases of the host read it: schema 1.
type record struct {
	Schema  int    `json:"schema"`
	Name    string `json:"name"`
	Version string `json:"version"`
	// Digest is of the executable in the depot, Image of the file that the
	// process executes: an interpreter, where the former is a script.
	Digest string `json:"digest"`
	Image  string `json:"image"`
	// Manifest is the text that the process was started by.
	Manifest string `json:"manifest"`
	// Signature is the text of its signature file, if there was one.
	Signature string `json:"signature,omitempty"`
	Protocol  int    `json:"protocol"`
	PID       int    `json:"pid"`
	// Started tells the process from a later one with its id.
	Started string `json:"started"`
	// Room is the process's directory in the state directory, Dir where it
	// lives if that had to be elsewhere.
	Room   string `json:"room"`
	Dir    string `json:"dir,omitempty"`
	Socket string `json:"socket"`
	// Charge is that of the state directory: a copy of it has another.
	Charge string `json:"charge"`

	Generation int64 `json:"generation"`
	Restarts   int64 `json:"restarts"`
	Exceptions int64 `json:"exceptions"`
}

// parseRecord reads a record strictly but for fields that it does not know.
func parseRecord(data []byte) (*record, error) {
	if err := strictjson.Check(data, 4); err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, err
	}
	if r.Schema != 1 {
		return nil, fmt.Errorf("schema: want 1, found %d", r.Schema)
	}
	switch {
	case !ValidName(r.Name):
		return nil, fmt.Errorf("name: found %q", r.Name)
	case r.PID <= 1:
		return nil, fmt.Errorf("pid: want one above 1, found %d", r.PID)
	case r.Started == "" || r.Charge == "" || r.Image == "":
		return nil, errors.New("want started, charge and image, found one empty")
	}
	for _, path := range []string{r.Room, r.Socket, r.home()} {
		if !filepath.IsAbs(path) || filepath.Clean(path) != path {
			return nil, fmt.Errorf("room, dir, socket: want absolute paths, found %q", path)
		}
	}
	return &r, nil
}

// home is where the process lives.
func (r *record) home() string {
	if r.Dir != "" {
		return r.Dir
	}
	return r.Room
}

// records are the records of a state directory.
type records struct {
	dir string

	mu     sync.Mutex
	owners map[string]int // by name, the pid of the record that is on disk
}

func (r *records) path(name string) string { return filepath.Join(r.dir, name+recordSuffix) }

func (r *records) write(rec *record) error {
	data, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := atomicfile.Replace(r.path(rec.Name), append(data, '\n'), 0o600); err != nil {
		return err
	}
	r.own(rec)
	return nil
}

// own notes that rec is on disk; r.mu is held.
func (r *records) own(rec *record) {
	if r.owners == nil {
		r.owners = map[string]int{}
	}
	r.owners[rec.Name] = rec.PID
}

// adopted notes that rec, which an earlier host wrote, is this one's now.
func (r *records) adopted(rec *record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own(rec)
}

// holds reports whether the next host finds i.
func (r *records) holds(i *instance) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.owners[i.bundle.manifest.Name] == i.proc.pid()
}

// remove deletes the record of i, unless another generation has taken its
// place.
func (r *records) remove(i *instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i.bundle == nil || i.proc == nil || r.owners[i.bundle.manifest.Name] != i.proc.pid() {
		return
	}
	delete(r.owners, i.bundle.manifest.Name)
	if err := r.drop(i.bundle.manifest.Name); err != nil {
		i.log.Warn("record of a plugin could not be removed", "error", err)
	}
}

func (r *records) drop(name string) error {
	if err := os.Remove(r.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// list returns the names of the plugins that have a record.
func (r *records) list() ([]string, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), recordSuffix); ok && ValidName(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

func (r *records) read(name string) (*record, error) {
	data, err := readBounded(r.path(name), maxRecordBytes)
	if err != nil {
		return nil, err
	}
	rec, err := parseRecord(data)
	if err == nil && rec.Name != name {
		err = fmt.Errorf("name: want %s, as the file is called, found %s", name, rec.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.path(name), err)
	}
	return rec, nil
}

// record describes i, which is in charge with the counts of s.
func (l *launcher) record(i *instance, s Status) (*record, error) {
	r := &record{
		Schema: 1, Name: i.bundle.manifest.Name, Version: i.bundle.manifest.Version,
		Digest: i.bundle.manifest.SHA256, Manifest: string(i.bundle.text), Signature: string(i.bundle.signature), Protocol: i.link.protocol,
		PID: i.proc.pid(), Started: i.proc.identity(), Room: i.room.note, Socket: i.link.addr.String(), Charge: l.rooms.charge,
		Generation: s.Generation, Restarts: s.Restarts, Exceptions: s.Exceptions,
	}
	if i.room.dir != i.room.note {
		r.Dir = i.room.dir
	}
	if r.Started == "" {
		return nil, errors.ErrUnsupported
	}
	var err error
	r.Image, err = imageDigest(r.PID, l.depot.path(r.Digest), r.Digest)
	return r, err
}

// keep writes the record of i. Without one, new or old, the plugin ends with
// this host.
func (l *launcher) keep(i *instance, s Status) {
	r, err := l.record(i, s)
	if err == nil {
		err = l.records.write(r)
	}
	if err != nil && !errors.Is(err, errors.ErrUnsupported) && !i.hasExited() {
		i.log.Warn("record of a plugin could not be written; without one it does not outlive this host", "error", err)
	}
}
