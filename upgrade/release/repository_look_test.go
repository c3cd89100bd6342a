package release

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"aead.dev/minisign"
)

// A mistyped path is not made into the beginning of a repository.
func TestRefreshAndYankMakeNothingWhereThereIsNoRepository(t *testing.T) {
	_, key, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "mistyped")
	r, err := NewRepository(RepositoryConfig{Dir: dir, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func() error{
		"refresh": func() error { return r.Refresh(t.Context(), "agentd") },
		"yank":    func() error { return r.Yank(t.Context(), "agentd", "1.0.0", "bad") },
		"state": func() error {
			_, err := r.State(t.Context(), "agentd")
			return err
		},
	} {
		if err := do(); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Fatalf("%s made %s", name, dir)
		}
	}
}
