package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/agent"
)

// TestADiagnosisOfARunningAndOfAStoppedAgent asks a real agent, and then its
// state directory alone.
func TestADiagnosisOfARunningAndOfAStoppedAgent(t *testing.T) {
	s := newSite(t)
	p := s.start("--admin-allow", "anyone=operate")
	file := filepath.Join(t.TempDir(), "d.tar.gz")
	diagnose := func(args ...string) agent.Diagnosis {
		t.Helper()
		r := agentd(t, append([]string{"diagnose", "--file", file, "-o", "json"}, args...)...).ok(t)
		var printed diagnosed
		if err := json.Unmarshal([]byte(r.stdout), &printed); err != nil {
			t.Fatalf("%v: %s", err, r.stdout)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		d, err := agent.ReadDiagnosis(f)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := f.Stat(); err != nil || info.Mode().Perm() != 0o600 || info.Size() != printed.Bytes || len(printed.Entries) != len(d.Entries) {
			t.Errorf("mode %v, %d bytes, printed %d bytes and %d files of %d", info.Mode(), info.Size(), printed.Bytes, len(printed.Entries), len(d.Entries))
		}
		return d
	}
	has := func(d agent.Diagnosis, name string) bool {
		for _, e := range d.Entries {
			if e.Name == name && e.Bytes > 2 {
				return true
			}
		}
		return false
	}
	d := diagnose("--address", s.admin)
	for _, name := range []string{"status.json", "logs/agent.ndjson", "goroutines.txt", "heap.pprof", "metrics.txt", "config/kept.json", "upgrade.json"} {
		if !has(d, name) {
			t.Errorf("no %s: %+v", name, d)
		}
	}
	if d.Source != "agent" {
		t.Errorf("source %q", d.Source)
	}
	p.stop()
	if d = diagnose("--state-dir", s.state); d.Source != "disk" || has(d, "status.json") || !has(d, "upgrade.json") || !has(d, "config/kept.json") {
		t.Errorf("of a stopped agent: %+v", d)
	}
	if r := agentd(t, "diagnose", "--file", file+".not", "--address", s.admin); r.code != 1 || !strings.Contains(r.stderr, "no archive was written") {
		t.Errorf("nobody answers: code %d, %s", r.code, r.stderr)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), ".agentd-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := os.Stat(file + ".not"); err == nil {
		t.Error("an archive was written of nothing")
	}
	if r := agentd(t, "diagnose", "--state-dir", s.state, "--address", "127.0.0.1:1"); r.code != 2 {
		t.Errorf("both ways: code %d, want 2", r.code)
	}
	// The default listener lets everybody read, and nobody operate.
	s.start()
	agentd(t, "diagnose", "--file", file, "--address", s.admin).fails(t, 1, "401", "operate", "--token-file", "--admin unix:/path")
}

// TestADiagnosisAskedInPlainTextIsSentToTLS: what the server says to it names
// no flag.
func TestADiagnosisAskedInPlainTextIsSentToTLS(t *testing.T) {
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	address := secure.Listener.Addr().String()
	agentd(t, "diagnose", "--file", filepath.Join(t.TempDir(), "d.tar.gz"), "--address", address).fails(t, 1, "400", "ask https://"+address)
}
