package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/internal/waittest"
)

// fleet is the only agent of the site as the registry has it.
func (s *site) fleet() agent.Entry {
	s.t.Helper()
	r := agentd(s.t, "fleet", "--etcd", s.etcd.URL(), "-o", "json").ok(s.t)
	var entries []agent.Entry
	if err := json.Unmarshal([]byte(r.stdout), &entries); err != nil || len(entries) != 1 {
		s.t.Fatalf("want one agent, found %v in %s", err, r.stdout)
	}
	return entries[0]
}

func TestConfigurationChangesLiveAndABadOneChangesNothing(t *testing.T) {
	s := newSite(t)
	s.start("--group", "web")
	put := func(scope, document string) {
		t.Helper()
		agentd(t, "config", "put", "--etcd", s.etcd.URL(), scope, writeFile(t, document)).ok(t)
	}
	put("global", "http: {read_timeout: 20s}\nspool: {max_file_bytes: 4096}\n")
	waittest.Until(t, "the configuration is in force", func() bool { return s.mustInfo().ConfigRevision != 0 })
	good := s.mustInfo().ConfigRevision
	for range 3 {
		s.post(`{"id":"x","pad":"` + strings.Repeat("y", 5000) + `"}`)
	}
	if r := agentd(t, "status", "--state-dir", s.state).ok(t); r.stdout == "" {
		t.Error("status says nothing")
	}
	if n := len(spoolFiles(t, s)); n < 3 {
		t.Errorf("%d files in the spool, want one for each record with spool.max_file_bytes 4096", n)
	}
	for name, c := range map[string]struct{ document, says string }{
		"unknown field":      {"server: {prot: 1}", "server"},
		"value out of range": {"http: {read_timeout: 1ms}", "http.read_timeout"},
		"wrong type":         {"spool: {max_file_bytes: many}", "max_file_bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			put("group/web", c.document)
			waittest.Until(t, "the refusal is reported", func() bool {
				e := s.fleet()
				return e.Status != nil && e.Status.Config.LastFailed != nil && strings.Contains(e.Status.Config.LastFailed.Reason, c.says)
			})
			if i := s.mustInfo(); i.ConfigRevision != good {
				t.Errorf("revision %d is in force, want still %d", i.ConfigRevision, good)
			}
			if r := agentd(t, "fleet", "--etcd", s.etcd.URL()).ok(t); !strings.Contains(r.stdout, "refused") || !strings.Contains(r.stdout, c.says) {
				t.Errorf("fleet does not tell of the refusal:\n%s", r.stdout)
			}
		})
	}
	put("group/web", "log: {level: debug}")
	waittest.Until(t, "the next good one is in force", func() bool { return s.mustInfo().ConfigRevision > good })
}

func TestConfigCommands(t *testing.T) {
	s := newSite(t)
	at := []string{"--etcd", s.etcd.URL()}
	run := func(args ...string) result { return agentd(t, append(append([]string{"config"}, args...), at...)...) }
	run("get", "global").fails(t, 1, "config/global")
	run("put", "global", writeFile(t, "log: {level: info}")).ok(t)
	run("put", "global", writeFile(t, "# mine\nlog: {level: debug}\n")).ok(t)
	if r := run("get", "global").ok(t); r.stdout != "# mine\nlog: {level: debug}\n" {
		t.Errorf("get prints %q, want the document as it was put", r.stdout)
	}
	if r := run("get", "global", "--history").ok(t); !strings.Contains(r.stdout, "level: info") || !strings.HasPrefix(r.stdout, "# global, revision ") {
		t.Errorf("the history is %q", r.stdout)
	}
	var view documentView
	if r := run("get", "global", "-o", "json").ok(t); json.Unmarshal([]byte(r.stdout), &view) != nil || view.Scope != "global" || view.Revision == 0 {
		t.Errorf("get -o json prints %s", r.stdout)
	}
	run("put", "nowhere", writeFile(t, "a: 1")).fails(t, 1, "nowhere", "global")
	run("put", "agent/../x", writeFile(t, "a: 1")).fails(t, 1, "agent/../x")
	run("put", "global", writeFile(t, "[1, 2]")).fails(t, 1, "global")
	run("put", "global", writeFile(t, "a: [")).fails(t, 1, "global")
	run("put", "global", "/no/such/file").fails(t, 1, "/no/such/file")
	if r := run("get", "global").ok(t); !strings.HasPrefix(r.stdout, "# mine") {
		t.Errorf("a refused document changed the published one to %q", r.stdout)
	}
	nobody := "http://" + freeAddress(t)
	for _, args := range [][]string{{"config", "get", "global"}, {"config", "put", "global", writeFile(t, "a: 1")}, {"fleet"}} {
		agentd(t, append(args, "--etcd", nobody, "--timeout", "500ms")...).fails(t, 1, nobody, "500ms", "--etcd")
	}
}
