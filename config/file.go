package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
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
}

// errNoFile means that no last-known-good configuration is kept.
var errNoFile = errors.New("no file for a last-known-good configuration is set")

// readFile returns the documents of the last good configuration for keys.
func readFile(path string, keys []string, maxBytes int) ([]document, error) {
	if path == "" {
		return nil, errNoFile
	}
	// Base64 takes 4/3, and there is little else in it.
	limit := int64(len(keys))*int64(maxBytes)*3/2 + 1<<16
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist", path)
	} else if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes: want at most %d", path, info.Size(), limit)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var g lastGood
	if err := json.Unmarshal(data, &g); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", path, err)
	}
	if g.Schema != fileSchema {
		return nil, fmt.Errorf("%s has schema %d: want %d", path, g.Schema, fileSchema)
	}
	if !slices.Equal(g.Keys, keys) {
		return nil, fmt.Errorf("%s is for the documents %q: want one for %q (another id, root or list of groups)", path, g.Keys, keys)
	}
	return g.Documents, nil
}

// keeper writes the last-known-good file, once it may.
type keeper struct {
	path     string
	keys     []string
	inCharge <-chan struct{} // nil = already
	pending  []document
	held     bool // pending waits for inCharge
}

// keep makes docs the last good configuration. Only I/O errors come back.
func (k *keeper) keep(docs []document) error {
	if k.path == "" {
		return nil
	}
	if k.inCharge != nil {
		select {
		case <-k.inCharge:
			k.inCharge = nil
		default:
			k.pending, k.held = docs, true
			return nil
		}
	}
	k.pending, k.held = nil, false
	data, err := json.MarshalIndent(lastGood{
		Schema:    fileSchema,
		Keys:      k.keys,
		Revision:  revisionOf(docs),
		Saved:     time.Now().UTC(),
		Documents: docs,
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := atomicfile.Write(k.path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("the last-known-good configuration could not be kept: %w", err)
	}
	return nil
}

// release writes what waited for inCharge, which is closed.
func (k *keeper) release() error {
	k.inCharge = nil
	if !k.held {
		return nil
	}
	return k.keep(k.pending)
}
