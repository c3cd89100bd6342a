package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
)

// startWithoutConfiguration runs an agent of a program that has none.
func (s *site) startWithoutConfiguration(id string) {
	s.t.Helper()
	a, err := agent.New(agent.Config{
		ID: id, Name: id, Version: "1.0.0", StateDir: filepath.Join(s.dir, id),
		Etcd:  agent.EtcdConfig{Endpoints: []string{s.etcd.URL()}},
		Start: func(context.Context, *agent.Agent) error { return nil },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	s.t.Cleanup(func() {
		stop()
		if err := waittest.Next(s.t, "its end", ended); upgrade.ExitCode(err) != 0 {
			s.t.Errorf("%s ended with %v", id, err)
		}
	})
	directory, err := agent.OpenDirectory(agent.EtcdConfig{Endpoints: []string{s.etcd.URL()}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = directory.Close() })
	waittest.Until(s.t, id+" has a status", func() bool {
		e, err := directory.Get(s.t.Context(), id)
		return err == nil && e.Status != nil
	})
}

// TestDocumentThatAgentsWouldRefuseIsNotPublished, and those who insist learn
// what the agents make of it.
func TestDocumentThatAgentsWouldRefuseIsNotPublished(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start("--group", "web")
	run := func(args ...string) result {
		t.Helper()
		return agentd(t, append(append([]string{"config"}, args...), "--etcd", s.etcd.URL())...)
	}
	c := s.etcd.Client(t)
	waittest.Until(t, "the schema is published", func() bool {
		found, err := config.Schemas(t.Context(), c, "")
		return err == nil && len(found.Schemas) == 1
	})
	bad := writeFile(t, "log: {level: info}\nhttp:\n  red_timeout: 5s\nspool: {max_file_bytes: hunter2}\n")
	for _, scope := range []string{"global", "group/web", "agent/a1"} {
		run("put", scope, bad).fails(t, 1, "1 agent of version 1.0.0 (a1)", "line 3, column 3: unknown field http.red_timeout",
			"line 4, column 9: spool.max_file_bytes: want a whole number, found text", "--force")
		run("put", "--dry-run", scope, bad).fails(t, 1, "line 3, column 3")
	}
	if r := run("put", "global", bad); strings.Contains(r.stderr+r.stdout, "hunter2") {
		t.Errorf("a value is shown: %+v", r)
	}
	if r, err := c.Get(t.Context(), "/agents/config", clientv3.WithPrefix(), clientv3.WithKeysOnly()); err != nil || len(r.Kvs) != 1 {
		t.Errorf("something was written: %v, %v", r.Kvs, err)
	}
	// Whom it does not concern has no say.
	if r := run("put", "group/db", bad).ok(t); !strings.Contains(r.stderr, "no live agent is concerned") {
		t.Errorf("printed %q", r.stderr)
	}
	// Nor has a program without a configuration, and nobody waits for it.
	s.startWithoutConfiguration("plain")
	good := writeFile(t, "log: {level: debug}\n")
	if r := run("put", "--dry-run", "global", good).ok(t); !strings.Contains(r.stdout, "+log: {level: debug}\n") || !strings.Contains(r.stdout, "would be published") {
		t.Errorf("printed %q", r.stdout)
	}
	put := run("put", "--wait", "1m", "-o", "json", "global", good)
	if !strings.Contains(put.stderr, "(plain) without a configuration") {
		t.Errorf("printed %q", put.stderr)
	}
	first := printed[configOutcome](t, put)
	if o := first.Outcome; o == nil || o.Agents != 1 || o.Running != 1 || first.Review.Checked != 1 {
		t.Errorf("printed %+v", first)
	}
	r := run("put", "--wait", "1m", "--force", "group/web", bad)
	r.fails(t, 1, "refused by 1", "a1 (1.0.0)", "config/group/web", "line 4, column 9", "rollback")
	if !strings.Contains(r.stdout, "0 of 1 agents run it, refused by 1") {
		t.Errorf("no progress in %q", r.stdout)
	}
	run("edit", "global", "--expect-revision", "1").fails(t, 1, "want to replace revision 1")

	// What the schema cannot know the agents say.
	run("put", "--wait", "1m", "group/web", writeFile(t, "http: {read_timeout: 1ms}")).fails(t, 1, "want 1s to 10m", "line 1, column 8")
	if r := run("put", "--dry-run", "global", writeFile(t, "log: {level: warn}\n")).ok(t); !strings.Contains(r.stderr, "will not take it before") || !strings.Contains(r.stderr, "config/group/web") {
		t.Errorf("that another layer is bad is not told: %q", r.stderr)
	}
	if r := run("delete", "--wait", "1m", "group/web").ok(t); !strings.Contains(r.stdout, "1 of 1 agents run it") {
		t.Errorf("printed %q", r.stdout)
	}
	if v := printed[effectiveView](t, run("get", "--effective", "--agent", "a1", "-o", "json")); v.Groups[0] != "web" || v.Revision != first.Revision ||
		fieldOf(v, "log.level") != "debug from global" || fieldOf(v, "http.read_timeout") != "30s from default" {
		t.Errorf("effective: %+v", v)
	}
	if r := run("schema", "--agent", "a1").ok(t); !strings.Contains(r.stdout, "https://json-schema.org/draft/2020-12/schema") || !strings.Contains(r.stdout, "read_timeout") {
		t.Errorf("the schema is %s", r.stdout)
	}
	schemas := printed[[]schemaView](t, run("schema", "-o", "json"))
	if len(schemas) != 1 || len(schemas[0].Agents) != 1 || schemas[0].Versions[0] != "1.0.0" {
		t.Errorf("schemas: %+v", schemas)
	}
	run("schema", schemas[0].Digest[:8]).ok(t)

	// A schema that is not what its name says is not believed; the agent
	// writes none over it.
	if _, err := c.Put(t.Context(), "/agents/config-schema/"+schemas[0].Digest, "{}"); err != nil {
		t.Fatal(err)
	}
	if r := run("put", "global", bad).ok(t); !strings.Contains(r.stderr, "only the form was checked") || !strings.Contains(r.stderr, "something else") {
		t.Errorf("printed %q", r.stderr)
	}
}

func fieldOf(v effectiveView, path string) string {
	for _, f := range v.Fields {
		if f.Path == path {
			return fmt.Sprintf("%v from %s", f.Value, f.Layer)
		}
	}
	return ""
}

// secretive is the configuration of another program of the fleet.
type secretive struct {
	Database struct {
		User     string
		Password config.Secret
	}
	Keys map[string]string `secret:"true"`
}

// TestSecretsAreHiddenInEveryOutput unless they are asked for, also when no
// agent that has them lives.
func TestSecretsAreHiddenInEveryOutput(t *testing.T) {
	s, run := documents(t)
	store, err := config.New(config.Config[secretive]{})
	if err != nil {
		t.Fatal(err)
	}
	schema, err := store.Schema()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := config.PublishSchema(t.Context(), s.etcd.Client(t), "", schema); err != nil {
		t.Fatal(err)
	}
	secret := func(n string) string {
		return writeFile(t, "# who\ndatabase:\n  user: shown\n  password: hunter"+n+"\nkeys: {a: hunter"+n+"}\nunknown: hunter"+n+"\n")
	}
	run("put", "global", secret("1")).ok(t)
	second := printed[configOutcome](t, run("put", "-o", "json", "global", secret("2")))
	run("put", "agent/a2", secret("3")).ok(t)
	for _, args := range [][]string{
		{"get", "global"}, {"get", "global", "-o", "json"}, {"get", "global", "--revision", fmt.Sprint(second.Replaces)},
		{"get", "--effective", "--agent", "a1", "--group", "x"}, {"get", "--effective", "--agent", "a1", "--group", "x", "-o", "json"},
		{"history", "global"}, {"history", "global", "-o", "json"},
		{"diff", "global", "--from", fmt.Sprint(second.Replaces)}, {"diff", "global", secret("4")}, {"diff", "global", secret("4"), "-o", "json"},
		{"put", "--dry-run", "global", secret("5")}, {"rollback", "global"},
	} {
		r := run(args...).ok(t)
		if strings.Contains(r.stdout+r.stderr, "hunter") {
			t.Errorf("%q prints a secret:\n%s%s", args, r.stdout, r.stderr)
		}
		if args[0] != "history" && args[0] != "rollback" && !strings.Contains(r.stdout, "(secret") {
			t.Errorf("%q does not tell that it hides one:\n%s", args, r.stdout)
		}
	}
	if r := run("diff", "global", secret("1")).ok(t); r.stdout != "" {
		t.Errorf("the same secrets differ:\n%s", r.stdout)
	}
	if r := run("get", "global", "--show-secrets").ok(t); !strings.Contains(r.stdout, "password: hunter1") {
		t.Errorf("--show-secrets prints %s", r.stdout)
	}
	if r := run("get", "global").ok(t); !strings.Contains(r.stdout, "# who") || !strings.Contains(r.stdout, "user: shown") {
		t.Errorf("too much is hidden:\n%s", r.stdout)
	}
}

// TestOfTwoPutsAtOnceOneWins and the other is told who did: real processes.
func TestOfTwoPutsAtOnceOneWins(t *testing.T) {
	s, run := documents(t)
	c := s.etcd.Client(t)
	before := printed[configOutcome](t, run("put", "-o", "json", "global", writeFile(t, "n: 0"))).Revision
	for round := range 4 {
		results := make([]result, 2)
		var both sync.WaitGroup
		for i := range results {
			file := writeFile(t, fmt.Sprintf("n: %d-%d", round, i))
			both.Go(func() {
				results[i] = run("put", "--expect-revision", fmt.Sprint(before), "--by", fmt.Sprintf("by-%d", i), "global", file)
			})
		}
		both.Wait()
		winner := 0
		if results[1].code == 0 {
			winner = 1
		}
		results[winner].ok(t)
		results[1-winner].fails(t, 1, fmt.Sprintf("want to replace revision %d", before), fmt.Sprintf("by by-%d", winner))
		d, err := config.Get(t.Context(), c, "", "global")
		if err != nil || string(d.Data) != fmt.Sprintf("n: %d-%d", round, winner) {
			t.Errorf("%d won, and the document is %q, %v", winner, d.Data, err)
		}
		before = d.Revision
	}
}
