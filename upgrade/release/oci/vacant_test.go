package oci

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRepositoryIsNotOverwrittenByItsOwnLayout(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0")
	before, err := os.ReadFile(filepath.Join(f.dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Push(t.Context(), PushConfig{Dir: f.dir, Target: Config{Location: "oci-layout:" + f.dir}})
	if err == nil || !strings.Contains(err.Error(), "want a layout or a new directory") {
		t.Errorf("pushed onto itself: %v", err)
	}
	after, err := os.ReadFile(filepath.Join(f.dir, "index.json"))
	if err != nil || string(after) != string(before) {
		t.Errorf("index.json was changed, %v", err)
	}
}
