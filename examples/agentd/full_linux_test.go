package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
)

// small starts agents on a state directory of a few MiB, in a mount
// namespace of their own.
func (s *site) small(size string) *process {
	s.t.Helper()
	if out, err := exec.Command("unshare", "-rm", "sh", "-c", "mount -t tmpfs none /mnt").CombinedOutput(); err != nil {
		s.t.Skipf("this system allows no mount in a user namespace: %v %s", err, out)
	}
	if err := os.Mkdir(s.state, 0o700); err != nil {
		s.t.Fatal(err)
	}
	s.wrap = []string{"unshare", "-rm", "sh", "-c", fmt.Sprintf(`mount -t tmpfs -o size=%s none %q && exec "$@"`, size, s.state), "sh"}
	return s.start()
}

// inside is a path of the state directory as the process sees it.
func (p *process) inside(path string) string {
	return fmt.Sprintf("/proc/%d/root%s", p.cmd.Process.Pid, path)
}

func TestFullDiskRefusesAnUpgradeAndRecordsAndRecovers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("1.0.0", "1.1.0")
	size, err := os.Stat(binary(t, "1.0.0"))
	if err != nil {
		t.Fatal(err)
	}
	// Room for the running release and 8 MiB.
	p := s.small(fmt.Sprint(size.Size() + 8<<20))
	s.upgrade("1.1.0").fails(t, 1, "1.1.0", "not enough disk space")
	if i := s.mustInfo(); i.Version != "1.0.0" || i.PID != p.cmd.Process.Pid || i.State != "running" {
		t.Errorf("after the refused upgrade %+v answers", i)
	}
	for _, size := range []int{900_000, 10_000} {
		body := `{"id":"a","pad":"` + strings.Repeat("x", size) + `"}`
		code := http.StatusAccepted
		for i := 0; code == http.StatusAccepted && i < 200; i++ {
			code = s.post(body)
		}
		if code != http.StatusInsufficientStorage {
			t.Errorf("a record of %d bytes that does not fit gets %d, want 507", size, code)
		}
	}
	waittest.Until(t, "the agent is not ready", func() bool { return status(s.url(s.admin, "/readyz")) == http.StatusServiceUnavailable })
	if code := status(s.url(s.admin, "/livez")); code != http.StatusOK {
		t.Errorf("a full disk makes /livez answer %d, want 200: a restart would not help", code)
	}
	files, err := filepath.Glob(p.inside(filepath.Join(s.state, "spool", "*.ndjson")))
	if err != nil || len(files) == 0 {
		t.Fatalf("no spool files: %v", err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	waittest.Until(t, "the agent is ready again", func() bool { return status(s.url(s.admin, "/readyz")) == http.StatusOK })
	waittest.Until(t, "records are taken again", func() bool { return s.post(`{"id":"b"}`) == http.StatusAccepted })
}
