package agent

import (
	"os"
	"path/filepath"
	"testing"
)

// TestInstanceThatCouldNotBeWrittenIsWrittenNextTime: else the agent would
// register under an instance that a restart does not find again, and be
// refused as a stranger.
func TestInstanceThatCouldNotBeWrittenIsWrittenNextTime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	i, err := openInstance(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.register(); err == nil || i.everRegistered() {
		t.Fatalf("without its directory: %v, registered %v", err, i.everRegistered())
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := i.register(); err != nil {
		t.Fatal(err)
	}
	again, err := openInstance(dir)
	if err != nil || again.ID != i.ID || !again.everRegistered() {
		t.Errorf("found %q, %v, want %q, registered", again.ID, err, i.ID)
	}
}
