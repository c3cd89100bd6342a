package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/examples/internal/hosttest"
)

func TestFileThatMayNotBeReadIsToldInHealthUntilItMay(t *testing.T) {
	dir := t.TempDir()
	denied, closed := filepath.Join(dir, "denied.log"), filepath.Join(dir, "closed")
	write(t, denied, "1\n")
	write(t, filepath.Join(dir, "open.log"), "2\n")
	for path, mode := range map[string]os.FileMode{denied: 0, filepath.Join(dir, "open.log"): 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(closed, 0); err != nil {
		t.Fatal(err)
	}
	s := newStepper(t, fmt.Sprintf(`{"paths":[%q,%q]}`, filepath.Join(dir, "*.log"), filepath.Join(closed, "*.log")))
	p := newPlugin()
	look := func() error {
		s.look(false)
		if _, err := s.drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.report(s.follower, summary(s.problems))
		return p.Health(t.Context())
	}
	t.Run("without what root may", func(t *testing.T) {
		hosttest.Unprivileged(t)
		for range 2 {
			err := look()
			for _, want := range []string{denied, closed, "permission denied"} {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("want %q in the plugin's health, found %v", want, err)
				}
			}
		}
	})
	s.want("2") // one file that may not be read does not keep others from being
	for path, mode := range map[string]os.FileMode{denied: 0o644, closed: 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("as another user, now permitted", func(t *testing.T) {
		hosttest.Unprivileged(t)
		if err := look(); err != nil {
			t.Errorf("the plugin's health still says %v", err)
		}
	})
	s.want("2", "1")
}
