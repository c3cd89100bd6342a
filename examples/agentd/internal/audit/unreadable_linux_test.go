package audit

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/examples/internal/hosttest"
)

func TestWhatCannotBeReadKeepsNothingElseFromBeingToldAndIsNotTakenForClean(t *testing.T) {
	dir := write(t, map[string]string{"a/Dockerfile": "FROM a\n", "b/Dockerfile": "FROM b\n", "c/run": "#!/bin/sh\n", "d/Dockerfile": "FROM d\n"})
	for _, name := range []string{"a/Dockerfile", "b", "c/run"} {
		name = filepath.Join(dir, name)
		if err := os.Chmod(name, 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(name, 0o700) }) //nolint:gosec // is removed
	}
	hosttest.Unprivileged(t)
	report := judge(t, "", Config{Paths: []string{dir, filepath.Join(dir, "a", "Dockerfile"), filepath.Join(dir, "b")}})
	if got, want := lines(dir, report), []string{"d/Dockerfile:1:6 image-tag-missing"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	var unread []string
	for _, u := range report.Unread {
		unread = append(unread, strings.TrimPrefix(u.Path, filepath.ToSlash(dir)+"/"))
	}
	if want := []string{"a/Dockerfile", "b", "c/run", "a/Dockerfile", "b"}; !slices.Equal(unread, want) {
		t.Errorf("not read: %q, want %q", unread, want)
	}
	if err := report.Incomplete(); err == nil || !strings.Contains(err.Error(), "a/Dockerfile") || !strings.Contains(err.Error(), "3 more") {
		t.Errorf("that not all was read is told as: %v", err)
	}
}
