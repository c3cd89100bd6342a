package collect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/perennial-go/perennial/examples/internal/durable"
)

const cursorSchema = 1

type cursorFile struct {
	Schema int       `json:"schema"`
	Plugin string    `json:"plugin"`
	Cursor string    `json:"cursor"`
	Saved  time.Time `json:"saved"`
}

func cursorPath(dir, name string) string { return filepath.Join(dir, name+".json") }

// loadCursor returns "" if the plugin has none yet. A file that cannot be
// used is an error and not a fresh start, which would collect everything
// once more.
func loadCursor(dir, name string) (string, error) {
	path := cursorPath(dir, name)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("the cursor of plugin %s: %w", name, err)
	}
	var f cursorFile
	if err := json.Unmarshal(data, &f); err != nil {
		return "", fmt.Errorf("the cursor of plugin %s: %s is damaged; remove it to collect from the beginning: %w", name, path, err)
	}
	if f.Schema != cursorSchema {
		return "", fmt.Errorf("the cursor of plugin %s: want schema %d in %s, found %d: a newer agentd wrote it; run that one, or remove the file to collect from the beginning", name, cursorSchema, path, f.Schema)
	}
	return f.Cursor, nil
}

func saveCursor(dir, name, cursor string) error {
	data, err := json.Marshal(cursorFile{Schema: cursorSchema, Plugin: name, Cursor: cursor, Saved: time.Now().UTC()})
	if err != nil {
		return err
	}
	if err := durable.WriteFile(cursorPath(dir, name), append(data, '\n')); err != nil {
		return fmt.Errorf("the cursor of plugin %s could not be saved: %w", name, err)
	}
	return nil
}
