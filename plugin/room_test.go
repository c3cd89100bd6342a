package plugin

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// TestRoomThatAPowerCutEmptiedIsCleared: its record is not synced, as no
// process outlives the power.
func TestRoomThatAPowerCutEmptiedIsCleared(t *testing.T) {
	r := &rooms{dir: t.TempDir(), log: slog.New(slog.DiscardHandler)}
	note := filepath.Join(r.dir, "probe-1")
	if err := os.Mkdir(note, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(note, tenantFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.sweep(nil)
	if _, err := os.Stat(note); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the room is left: %v", err)
	}
}
