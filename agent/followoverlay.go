package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/atomicfile"
)

const (
	// overlayFileName in the state directory keeps the documents that rollouts
	// have laid over those of their scope.
	overlayFileName = "overlay.json"
	overlaySchema   = 1
	// overlayLimit bounds the file, in bytes: base64 takes 4/3.
	overlayLimit = 16 * config.DefaultMaxBytes
)

// overlayFile is that file.
type overlayFile struct {
	Schema    int                 `json:"schema"`
	Documents map[string]overlaid `json:"documents,omitempty"` // by scope
}

// overlaid is a document in the place of its scope's own.
type overlaid struct {
	// Rollout is the one that has brought it.
	Rollout string `json:"rollout"`
	// Revision is that of its key in etcd.
	Revision int64  `json:"revision"`
	Data     []byte `json:"data"`
	// Over is the revision of the scope's own document when this was laid over it;
	// -1 = it had none, 0 = not known.
	Over int64 `json:"over,omitempty"`
	// Yields: it gives way to what is published next.
	Yields bool `json:"yields,omitempty"`
}

// with returns f with d for scope; nil = without one.
func (f overlayFile) with(scope string, d *overlaid) overlayFile {
	all := maps.Clone(f.Documents)
	if d == nil {
		delete(all, scope)
		return overlayFile{Documents: all}
	}
	if all == nil {
		all = map[string]overlaid{}
	}
	all[scope] = *d
	return overlayFile{Documents: all}
}

func readOverlay(path string) (overlayFile, error) {
	data, err := atomicfile.Read(path, overlayLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return overlayFile{}, nil
	}
	if err != nil {
		return overlayFile{}, err
	}
	return parseOverlay(data)
}

func parseOverlay(data []byte) (overlayFile, error) {
	var f overlayFile
	if err := json.Unmarshal(data, &f); err != nil {
		return overlayFile{}, fmt.Errorf("%s: %w", overlayFileName, err)
	}
	if f.Schema != overlaySchema {
		return overlayFile{}, fmt.Errorf("%s has schema %d, this agent reads %d: another release wrote it", overlayFileName, f.Schema, overlaySchema)
	}
	for scope, d := range f.Documents {
		if err := config.CheckScope(scope); err != nil || d.Data == nil {
			return overlayFile{}, fmt.Errorf("%s: %q is no scope with a document", overlayFileName, scope)
		}
	}
	return f, nil
}

func (f overlayFile) write(path string) error {
	f.Schema = overlaySchema
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(path, append(data, '\n'), 0o600)
}
