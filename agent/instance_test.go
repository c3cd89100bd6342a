package agent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/perennial-go/perennial/internal/boundedio"
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

func TestInstanceThatTellsNobodyApartIsRefused(t *testing.T) {
	for _, bad := range []string{"", "{", `{"schema":1}`, `{"schema":1,"instance":""}`, `{"schema":1,"instance":"../x"}`, `{"schema":2,"instance":"A"}`, `[]`} {
		if i, err := parseInstance(instanceFile, []byte(bad)); err == nil {
			t.Errorf("%s was taken for instance %q", bad, i.ID)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, instanceFile), make([]byte, instanceLimit+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openInstance(dir); !errors.Is(err, boundedio.ErrTooLarge) {
		t.Errorf("a file that is too large: %v", err)
	}
}

func FuzzInstance(f *testing.F) {
	f.Add([]byte(`{"schema":1,"instance":"QX4R6N2M7HJSCWIYB3TGZL5VDE","registered":true}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := parseInstance(instanceFile, data)
		if err == nil && (i.ID == "" || len(i.ID) > 128 || i.Schema != schema) {
			t.Errorf("instance %q of schema %d was let through", i.ID, i.Schema)
		}
	})
}
