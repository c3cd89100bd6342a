//go:build unix

package audit

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestPipesAndDevicesDoNotHangTheAudit(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"Dockerfile", "run", "go.sum"} {
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Skip(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "a.sh"), []byte(". ./run\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	within(t, func() {
		if got := lines(dir, judge(t, dir, Config{})); len(got) != 1 || got[0] != "a.sh:1:1 source-unread" {
			t.Errorf("found %q", got)
		}
	})
}

// TestPipesInThePlaceOfGitsFilesDoNotHangTheAudit nor keep the rest from being told.
func TestPipesInThePlaceOfGitsFilesDoNotHangTheAudit(t *testing.T) {
	for _, name := range []string{".git", ".git/HEAD", ".git/packed-refs", ".git/commondir"} {
		dir := write(t, map[string]string{"Dockerfile": "FROM nginx\n"})
		pipe := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(pipe), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Skip(err)
		}
		within(t, func() {
			report := judge(t, dir, Config{})
			if len(report.Findings) != 2 || report.Findings[0].Rule != fileUnread || report.Findings[1].Rule != imageTagMissing {
				t.Errorf("%s: found %+v", name, report.Findings)
			}
		})
	}
}
