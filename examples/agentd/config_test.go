package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/porttest"
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
	t.Parallel()
	s := newSite(t)
	s.start("--group", "web")
	put := func(scope, document string) {
		t.Helper()
		// As somebody who does not ask the schema first.
		agentd(t, "config", "put", "--force", "--etcd", s.etcd.URL(), scope, writeFile(t, document)).ok(t)
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

// documents is a site without agents, and the config commands for it.
func documents(t *testing.T) (s *site, run func(args ...string) result) {
	t.Helper()
	s = &site{t: t, dir: t.TempDir(), etcd: etcdtest.Start(t)}
	return s, func(args ...string) result {
		t.Helper()
		return agentd(t, append(append([]string{"config"}, args...), "--etcd", s.etcd.URL())...)
	}
}

// printed decodes what a config command prints with -o json.
func printed[T any](t *testing.T, r result) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.ok(t).stdout), &v); err != nil {
		t.Fatalf("%v in %s", err, r.stdout)
	}
	return v
}

func TestConfigCommands(t *testing.T) {
	t.Parallel()
	s, run := documents(t)
	run("get", "global").fails(t, 1, "config/global", "config history global")
	run("put", "global", writeFile(t, "log: {level: info}")).ok(t)
	second := printed[configOutcome](t, run("put", "-o", "json", "global", writeFile(t, "# mine\nlog: {level: debug}\n"), "--message", "more", "--by", "me"))
	if !second.Changed || second.Revision == 0 || second.Replaces == 0 || second.Review == nil || len(second.Review.Notes) == 0 {
		t.Errorf("put -o json prints %+v", second)
	}
	if r := run("put", "global", writeFile(t, "# mine\nlog: {level: debug}\n")).ok(t); !strings.Contains(r.stdout, "unchanged") {
		t.Errorf("the same text again: %s", r.stdout)
	}
	if r := run("get", "global", "--show-secrets").ok(t); r.stdout != "# mine\nlog: {level: debug}\n" {
		t.Errorf("get prints %q, want the document as it was put", r.stdout)
	}
	if r := run("get", "global").ok(t); strings.Contains(r.stdout, "debug") || !strings.Contains(r.stderr, "--show-secrets") {
		t.Errorf("no schema says what is secret, and get prints %q, %q", r.stdout, r.stderr)
	}
	if v := printed[documentView](t, run("get", "global", "-o", "json", "--show-secrets")); v.Scope != "global" || v.Revision != second.Revision || v.By != "me" || v.Message != "more" || v.At.IsZero() {
		t.Errorf("get -o json prints %+v", v)
	}
	if r := run("get", "global", "--show-secrets", "--revision", fmt.Sprint(second.Replaces)).ok(t); r.stdout != "log: {level: info}\n" {
		t.Errorf("the revision before is %q", r.stdout)
	}
	if r := run("diff", "global", "--show-secrets", "--from", fmt.Sprint(second.Replaces)).ok(t); !strings.Contains(r.stdout, "-log: {level: info}\n") || !strings.Contains(r.stdout, "+log: {level: debug}\n") {
		t.Errorf("the diff is %q", r.stdout)
	}
	if v := printed[diffView](t, run("diff", "global", writeFile(t, "# mine\nlog: {level: debug}\n"), "-o", "json")); !v.Same || v.Diff != "" {
		t.Errorf("the diff with the same text is %+v", v)
	}
	back := printed[configOutcome](t, run("rollback", "global", "-o", "json"))
	if back.Restores != second.Replaces || back.Replaces != second.Revision {
		t.Errorf("rollback prints %+v", back)
	}
	run("delete", "global", "--expect-revision", fmt.Sprint(second.Revision)).fails(t, 1, fmt.Sprint(back.Revision))
	run("delete", "global", "--message", "over").ok(t)
	run("delete", "global").fails(t, 1, "config/global")
	history := printed[[]documentView](t, run("history", "global", "-o", "json", "--show-secrets"))
	if len(history) != 4 || !history[0].Deleted || history[0].Message != "over" || history[1].Restores != second.Replaces || history[2].Document != "# mine\nlog: {level: debug}\n" {
		t.Errorf("the history is %+v", history)
	}
	if r := run("history", "global").ok(t); !strings.Contains(r.stdout, "deleted") || !strings.Contains(r.stdout, fmt.Sprintf("revision %d again", second.Replaces)) {
		t.Errorf("the history is\n%s", r.stdout)
	}
	run("put", "--expect-revision", "0", "global", writeFile(t, "a: 1")).ok(t)
	run("put", "--expect-revision", "0", "global", writeFile(t, "a: 2")).fails(t, 1, "want to replace no document, found revision")
	run("put", "agent/nobody", writeFile(t, "a: 1")).ok(t)
	run("rollback", "agent/nobody").fails(t, 1, "is the first", "agentd config delete agent/nobody")
	run("delete", "agent/nobody").ok(t)
	run("rollback", "agent/other").fails(t, 1, "history of agent/other is empty")
	run("history", "agent/other").fails(t, 1, "agent/other")
	if r := run("schema").ok(t); r.stdout != "no agent has published a schema\n" {
		t.Errorf("schemas: %s", r.stdout)
	}
	run("schema", "--agent", "a1").fails(t, 1, "a1")
	run("get", "--effective", "--agent", "a1").fails(t, 1, "a1", "--group")
	if v := printed[effectiveView](t, run("get", "--effective", "--agent", "a1", "--group", "web", "--show-secrets", "-o", "json")); len(v.Fields) != 1 || v.Fields[0].Path != "a" || v.Fields[0].Layer != "global" || v.Running != nil {
		t.Errorf("effective: %+v", v)
	}
	nobody := "http://" + porttest.Address(t)
	for _, args := range [][]string{{"config", "get", "global"}, {"config", "put", "global", writeFile(t, "a: 1")}, {"config", "history", "global"}, {"fleet"}} {
		agentd(t, append(args, "--etcd", nobody, "--timeout", "500ms")...).fails(t, 1, nobody, "500ms", "--etcd")
	}
	if t.Failed() {
		t.Log(s.etcd.URL())
	}
}

// TestWhatIsNoDocumentIsRefused before anything is written, and wrong usage
// with its own exit code.
func TestWhatIsNoDocumentIsRefused(t *testing.T) {
	s, run := documents(t)
	for name, c := range map[string]struct {
		args []string
		code int
		says []string
	}{
		"an unknown scope":         {[]string{"put", "nowhere", writeFile(t, "a: 1")}, 2, []string{"nowhere", "global"}},
		"a scope that escapes":     {[]string{"put", "agent/../x", writeFile(t, "a: 1")}, 2, []string{"agent/../x"}},
		"a list":                   {[]string{"put", "global", writeFile(t, "[1, 2]")}, 1, []string{"global"}},
		"a broken document":        {[]string{"put", "global", writeFile(t, "a: [")}, 1, []string{"global", "line 1"}},
		"no file":                  {[]string{"put", "global", "/no/such/file"}, 1, []string{"/no/such/file"}},
		"too large a file":         {[]string{"put", "global", writeFile(t, "a: "+strings.Repeat("x", 3<<19))}, 1, []string{"at most 1568768 bytes"}},
		"a message that is a page": {[]string{"put", "--message", strings.Repeat("x", 600), "global", writeFile(t, "a: 1")}, 1, []string{"600 bytes", "at most 512"}},
		"a negative revision":      {[]string{"put", "--expect-revision", "-5", "global", writeFile(t, "a: 1")}, 2, []string{"--expect-revision"}},
		"a negative wait":          {[]string{"put", "--wait", "-1s", "global", writeFile(t, "a: 1")}, 2, []string{"--wait"}},
		"history of no scope":      {[]string{"history", "nowhere"}, 2, []string{"nowhere"}},
		"two kinds of diff":        {[]string{"diff", "global", writeFile(t, "a: 1"), "--from", "3"}, 2, []string{"config diff"}},
		"one agent to compare":     {[]string{"diff", "--agent", "a1"}, 2, []string{"--agent twice"}},
		"effective of nobody":      {[]string{"get", "--effective"}, 2, []string{"--agent"}},
		"get of nothing":           {[]string{"get"}, 2, []string{"SCOPE"}},
		"rollback to nothing":      {[]string{"rollback", "--to", "-1", "global"}, 2, []string{"--to"}},
		"two schemas":              {[]string{"schema", "--agent", "a1", "abc"}, 2, []string{"either"}},
	} {
		t.Run(name, func(t *testing.T) { run(c.args...).fails(t, c.code, c.says...) })
	}
	if r, err := s.etcd.Client(t).Get(t.Context(), "\x00", clientv3.WithFromKey(), clientv3.WithCountOnly()); err != nil || r.Count != 0 {
		t.Errorf("%d keys were written, %v", r.Count, err)
	}
}
