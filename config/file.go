package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// fileSchema is the version of the last-known-good file's format.
const fileSchema = 1

// lastGood is the content of the last-known-good file. It holds the documents
// and not what they decode to, so that another release of the program, with
// other fields and defaults, reads them by its own rules.
type lastGood struct {
	Schema int `json:"schema"`
	// Keys are the documents that applied, weakest first, whether they
	// existed or not: a file for other groups is another configuration.
	Keys      []string   `json:"keys"`
	Revision  int64      `json:"revision"`
	Saved     time.Time  `json:"saved"`
	Documents []document `json:"documents"`
	// Store is the etcd that they are from; older releases do not tell.
	Store *store `json:"store,omitempty"`
	// Files are the host's own documents, for when the ones there are bad.
	// Releases without local files ignore them.
	Files []document `json:"files,omitempty"`
}

// fromEtcd is the layer that is not the host's.
func (g lastGood) fromEtcd() layers {
	l := layers{etcd: g.Documents}
	if g.Store != nil {
		l.store = *g.Store
	}
	return l
}

func (g lastGood) files() []document {
	for i := range g.Files {
		g.Files[i].local = true
	}
	return g.Files
}

// errNoFile means that no last-known-good configuration is kept.
var errNoFile = errors.New("no file for a last-known-good configuration is set")

// readFile returns the last good configuration for keys.
func readFile(path string, keys []string, maxBytes, files int) (g lastGood, err error) {
	if path == "" {
		return g, errNoFile
	}
	// Base64 takes 4/3, and there is little else in it.
	limit := int64(len(keys)+files)*int64(maxBytes)*3/2 + 1<<16
	data, err := readLocal(path, int(limit))
	if errors.Is(err, fs.ErrNotExist) {
		return g, fmt.Errorf("%s does not exist", path)
	} else if err != nil {
		return g, err
	}
	if err := json.Unmarshal(data, &g); err != nil {
		return g, fmt.Errorf("%s is damaged: %w", path, err)
	}
	if g.Schema != fileSchema {
		return g, fmt.Errorf("%s has schema %d: want %d", path, g.Schema, fileSchema)
	}
	if !slices.Equal(g.Keys, keys) {
		return g, fmt.Errorf("%s is for the documents %q: want one for %q (another id, root or list of groups)", path, g.Keys, keys)
	}
	return g, nil
}

// keeper writes the last-known-good file, once it may.
type keeper struct {
	path     string
	keys     []string
	inCharge <-chan struct{} // nil = already
	pending  layers
	held     bool // pending waits for inCharge
}

// read returns what was kept.
func (k *keeper) read(maxBytes, files int) (lastGood, error) {
	return readFile(k.path, k.keys, maxBytes, files)
}

// keep makes l the last good configuration. Only I/O errors come back.
func (k *keeper) keep(l layers) error {
	if k.path == "" {
		return nil
	}
	if !k.mayWrite() {
		k.pending, k.held = l, true
		return nil
	}
	k.pending, k.held = layers{}, false
	kept := lastGood{
		Schema:    fileSchema,
		Keys:      k.keys,
		Revision:  revisionOf(l.etcd),
		Saved:     time.Now().UTC(),
		Documents: l.etcd,
		Files:     l.files,
	}
	if l.store != (store{}) {
		kept.Store = &l.store
	}
	data, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return err
	}
	if err := atomicfile.Write(k.path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("the last-known-good configuration could not be kept: %w", err)
	}
	return nil
}

func (k *keeper) mayWrite() bool {
	select {
	case <-k.inCharge:
		return true
	default:
		return k.inCharge == nil
	}
}

// release writes what waited for inCharge, which is closed.
func (k *keeper) release() error {
	k.inCharge = nil
	if !k.held {
		return nil
	}
	return k.keep(k.pending)
}
