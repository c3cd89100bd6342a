package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/porttest"
	"github.com/perennial-go/perennial/internal/waittest"
)

func TestAgentTakesRecordsAndAnswersForItself(t *testing.T) {
	s := newSite(t)
	p := s.start("--label", "env=test,rack=7", "--group", "web")
	if code := s.post("{\"id\":\"a\"}\n{\"id\":\"b\"}\n"); code != http.StatusAccepted {
		t.Errorf("POST /v1/records answers %d, want 202", code)
	}
	if code := s.post("{\"id\":\"c\"}\nno\n"); code != http.StatusBadRequest {
		t.Errorf("a bad line gets %d, want 400", code)
	}
	if got := s.stored(); len(got) != 2 || got["a"] != 1 || got["b"] != 1 {
		t.Errorf("stored %v, want a and b", got)
	}
	waittest.Until(t, "the agent says that it runs", func() bool { return s.mustInfo().State == "running" })
	i := s.mustInfo()
	if i.ID != "a1" || i.Version != "1.0.0" || i.PID != p.cmd.Process.Pid || i.State != "running" || len(i.Digest) != 64 {
		t.Errorf("info %+v", i)
	}
	for _, path := range []string{"/livez", "/readyz?verbose", "/metrics"} {
		if code := status(s.url(s.admin, path)); code != http.StatusOK {
			t.Errorf("GET %s answers %d", path, code)
		}
	}
	r := agentd(t, "fleet", "--wide", "--etcd", s.etcd.URL()).ok(t)
	for _, want := range []string{"a1", "1.0.0", i.Digest[:12], "running", "ready"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("fleet does not show %q:\n%s", want, r.stdout)
		}
	}
	r = agentd(t, "fleet", "--etcd", s.etcd.URL(), "-o", "json").ok(t)
	for _, want := range []string{`"rack": "7"`, `"web"`} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("fleet -o json does not show %s:\n%s", want, r.stdout)
		}
	}
	r = agentd(t, "status", "--state-dir", s.state).ok(t)
	if !strings.Contains(r.stdout, "an agent runs on it") || !strings.Contains(r.stdout, "1.0.0-") {
		t.Errorf("status says\n%s", r.stdout)
	}
}

func TestStoppedAgentEndsWith0AndLeavesTheRegistry(t *testing.T) {
	s := newSite(t)
	p := s.start()
	p.stop()
	if err := <-p.done; err != nil {
		t.Errorf("the agent ended with %v, want 0", err)
	}
	if r := agentd(t, "fleet", "--wide", "--etcd", s.etcd.URL()).ok(t); !strings.Contains(r.stdout, "no agent is registered") {
		t.Errorf("the agent is still in the registry:\n%s", r.stdout)
	}
}

func TestKilledAgentKeepsWhatItAcknowledged(t *testing.T) {
	s := newSite(t)
	p := s.start()
	for i := range 20 {
		if code := s.post(fmt.Sprintf(`{"id":"%d"}`, i)); code != http.StatusAccepted {
			t.Fatalf("POST answers %d", code)
		}
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-p.done; err == nil {
		t.Error("a killed agent ended with 0")
	}
	s.start()
	s.post(`{"id":"after"}`)
	if got := s.stored(); len(got) != 21 {
		t.Errorf("%d records are there, want 21: %v", len(got), got)
	}
}

func TestStartThatCannotBeChangesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start()
	waittest.Until(t, "the agent runs", func() bool { return s.mustInfo().State == "running" })
	other := filepath.Join(s.dir, "other")
	file := filepath.Join(s.dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + porttest.Address(t)
	free := []string{"--listen", porttest.Address(t), "--admin", porttest.Address(t)}
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"unreachable etcd at the first start": {[]string{"--id", "a2", "--state-dir", other + "1", "--etcd", nobody}, []string{nobody, "5s"}},
		"an id that a live agent has":         {[]string{"--state-dir", other + "2"}, []string{"a1", "registered by another agent", "own id"}},
		"the state directory of a live agent": {[]string{"--id", "a2"}, []string{s.state}},
		"a state directory that is a file":    {[]string{"--id", "a2", "--state-dir", file}, []string{file}},
		"an address that is taken":            {[]string{"--id", "a2", "--state-dir", other + "3", "--listen", s.listen}, []string{s.listen, "--listen"}},
		"an id that is no key":                {[]string{"--id", "../a2", "--state-dir", other + "4"}, []string{"../a2"}},
		"a trust file that is not there":      {[]string{"--id", "a2", "--state-dir", other + "5", "--trust", "none.pub"}, []string{"none.pub"}},
		"a trust file that is no key":         {[]string{"--id", "a2", "--state-dir", other + "6", "--trust", s.key}, []string{"release.key"}},
		"a plugins directory that is missing": {[]string{"--id", "a2", "--state-dir", other + "7", "--plugins", other + "8"}, []string{other + "8"}},
		"a repository of another kind":        {[]string{"--id", "a2", "--state-dir", other + "9", "--repo", "ftp://x/y"}, []string{"ftp"}},
	} {
		t.Run(name, func(t *testing.T) {
			pid := s.mustInfo().PID
			agentd(t, s.runArgs(append(free, c.args...)...)...).fails(t, 1, c.says...)
			if i := s.mustInfo(); i.PID != pid || i.State != "running" {
				t.Errorf("the agent that ran before is now %+v", i)
			}
			r := agentd(t, "fleet", "--wide", "--etcd", s.etcd.URL()).ok(t)
			// In its own column: a digest may have it, too.
			if strings.Contains(r.stdout, "\na2 ") || !strings.Contains(r.stdout, "\na1 ") {
				t.Errorf("the fleet is now\n%s", r.stdout)
			}
		})
	}
}

func TestStateDirectoryThatIsNotWritableIsRefused(t *testing.T) {
	s := newSite(t)
	locked := filepath.Join(s.dir, "locked")
	if err := os.Mkdir(locked, 0o500); err != nil {
		t.Fatal(err)
	}
	if probe := os.WriteFile(filepath.Join(locked, "probe"), nil, 0o600); !errors.Is(probe, fs.ErrPermission) {
		// root writes everywhere but below what is no directory.
		locked = "/proc/self"
	}
	agentd(t, s.runArgs("--state-dir", filepath.Join(locked, "state"))...).fails(t, 1, locked)
}

func TestKnownAgentStartsWithoutEtcd(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	agentd(t, "config", "put", "--etcd", s.etcd.URL(), "global", writeFile(t, "log: {level: warn}")).ok(t)
	p := s.start()
	revision := s.mustInfo().ConfigRevision
	if revision == 0 {
		t.Error("the configuration is not in force")
	}
	p.stop()
	s.etcd.Stop()
	s.launch()
	waittest.Until(t, "the agent serves", func() bool { return status(s.url(s.listen, "/v1/info")) == http.StatusOK })
	if i := s.mustInfo(); i.ConfigRevision != revision || i.ConfigOrigin != "file" {
		t.Errorf("without etcd the agent runs on revision %d from %s, want %d from file", i.ConfigRevision, i.ConfigOrigin, revision)
	}
	if code := s.post(`{"id":"x"}`); code != http.StatusAccepted {
		t.Errorf("without etcd a record gets %d", code)
	}
	s.etcd.Restart()
	waittest.Until(t, "the agent is back in the registry", func() bool {
		return strings.Contains(agentd(t, "fleet", "--etcd", s.etcd.URL()).stdout, "a1")
	})
}

func TestSecondSignalEndsAnAgentThatDrains(t *testing.T) {
	s := newSite(t)
	p := s.start()
	conn, err := net.Dial("tcp", s.listen)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	// A request whose body never comes keeps the drain waiting.
	if _, err := io.WriteString(conn, "POST /v1/records HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	term := func() {
		t.Helper()
		if err := sendSignal(p.cmd.Process.Pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	term()
	waittest.Until(t, "the agent drains", func() bool { return strings.Contains(p.logged(), "msg=draining") })
	// A second signal within a second may be the same stop, told twice.
	began := time.Now()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case err := <-p.done:
			if err == nil || time.Since(began) > 10*time.Second {
				t.Errorf("after further signals the agent ended with %v after %v", err, time.Since(began))
			}
			return
		case <-again.C:
			_ = sendSignal(p.cmd.Process.Pid, syscall.SIGTERM) // it may just have ended
		}
	}
}

func writeFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
