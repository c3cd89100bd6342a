package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// readState reads a document of the state directory, of at most limit bytes
// and of the given schema, into v. It reports false where there is none.
//
//nolint:unparam // each document has a schema number of its own; all are 1 yet
func readState(path string, limit int64, schema int, v any) (found bool, err error) {
	data, err := atomicfile.Read(path, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	if head.Schema != schema {
		return false, fmt.Errorf("%s has schema %d, this agent reads %d: another release wrote it", path, head.Schema, schema)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return true, nil
}

// writeState replaces a file of the state directory by v as JSON.
func writeState(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(path, append(data, '\n'), 0o600)
}

// removeState removes a document of the state directory, durably; one that is
// not there is no error.
func removeState(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, atomicfile.SyncDir(filepath.Dir(path)))
}
