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
