package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/examples/agentd/internal/access"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// guarded is an etcd that agentd etcd bootstrap has prepared.
type guarded struct {
	t         *testing.T
	etcd      *etcdtest.Server
	passwords string
	root      string // of the keys
}

func newGuarded(t *testing.T, root string, agents ...string) *guarded {
	t.Helper()
	g := &guarded{t: t, etcd: etcdtest.Start(t), passwords: filepath.Join(t.TempDir(), "passwords"), root: root}
	g.bootstrap("--agent", strings.Join(agents, ",")).ok(t)
	return g
}

func (g *guarded) bootstrap(more ...string) result {
	g.t.Helper()
	args := append([]string{"etcd", "bootstrap", "--etcd", g.etcd.URL(), "--etcd-root", g.root, "--passwords", g.passwords}, more...)
	return agentd(g.t, args...)
}

// as are the flags of one user.
func (g *guarded) as(user string) []string {
	return []string{"--etcd", g.etcd.URL(), "--etcd-root", g.root, "--etcd-user", user, "--etcd-password-file", filepath.Join(g.passwords, user)}
}

func (g *guarded) client(user string) *clientv3.Client {
	g.t.Helper()
	c, err := agent.EtcdConfig{
		Endpoints: []string{g.etcd.URL()}, Username: user, PasswordFile: filepath.Join(g.passwords, user),
	}.Dial()
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (g *guarded) context() context.Context {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), waittest.Patience)
	g.t.Cleanup(cancel)
	return ctx
}

// TestBootstrapDoesItOnceAndSaysSo: operators run it again, after a crash of
// it too, and want to see first what it would do.
func TestBootstrapDoesItOnceAndSaysSo(t *testing.T) {
	t.Parallel()
	g := &guarded{t: t, etcd: etcdtest.Start(t), passwords: filepath.Join(t.TempDir(), "passwords"), root: "/agents/"}
	dry := g.bootstrap("--agent", "a1", "--dry-run", "-o", "json").ok(t)
	var wanted changes
	if err := json.Unmarshal([]byte(dry.stdout), &wanted); err != nil || !wanted.DryRun || len(wanted.Steps) < 20 {
		t.Fatalf("--dry-run says %v\n%s", err, dry.stdout)
	}
	if _, err := os.Stat(g.passwords); err == nil {
		t.Error("--dry-run wrote passwords")
	}
	again := g.bootstrap("--agent", "a1", "--dry-run", "-o", "json").ok(t)
	if again.stdout != dry.stdout {
		t.Errorf("--dry-run changed something:\n%s", again.stdout)
	}
	// Interrupted after any number of steps, it goes on from there.
	ctx := g.context()
	if _, err := g.etcd.Client(t).RoleAdd(ctx, "agent"); err != nil {
		t.Fatal(err)
	}
	if r := g.bootstrap("--agent", "a1").ok(t); strings.Contains(r.stdout, "nothing to do") {
		t.Errorf("the first run says %q", r.stdout)
	}
	asRoot := []string{"--etcd-user", "root", "--etcd-password-file", filepath.Join(g.passwords, "root")}
	if r := g.bootstrap(append(asRoot, "--agent", "a1")...).ok(t); !strings.Contains(r.stdout, "nothing to do") || r.stderr != "" {
		t.Errorf("the second run says %q, %q", r.stdout, r.stderr)
	}
	g.bootstrap("--agent", "a1").fails(t, 1, "user") // authentication is on
	g.bootstrap("--agent", "../a1").fails(t, 2, "../a1")

	for _, user := range []string{"root", "agent-a1", "operator", "controller", "reader"} {
		if info, err := os.Stat(filepath.Join(g.passwords, user)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("password of %s: mode %v, %v", user, info.Mode(), err)
		}
	}
	// A permission too many is taken away, one that is missing given.
	admin := g.client("root")
	if _, err := admin.RoleGrantPermission(ctx, "agent-a1", "/agents/", "", clientv3.PermissionType(clientv3.PermReadWrite)); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.RoleRevokePermission(ctx, "agent-a1", "/agents/order/a1", ""); err != nil {
		t.Fatal(err)
	}
	r := g.bootstrap(append(asRoot, "--agent", "a1")...).ok(t)
	for _, step := range []string{`revoke agent-a1`, "grant agent-a1: read-write /agents/order/a1", "2 changes made"} {
		if !strings.Contains(r.stdout+r.stderr, step) {
			t.Errorf("want %q in\n%s%s", step, r.stdout, r.stderr)
		}
	}
	agentd(t, append([]string{"etcd", "add-agent", "--passwords", g.passwords, "a2"}, g.as("root")...)...).ok(t)
	old := g.client("agent-a2")
	if _, err := old.Put(ctx, "/agents/status/a2", "x"); err != nil {
		t.Error(err)
	}
	agentd(t, append([]string{"etcd", "rotate-password", "--passwords", g.passwords, "agent-a2"}, g.as("root")...)...).ok(t)
	if _, err := old.Put(ctx, "/agents/status/a2", "with the new password from the same file"); err != nil {
		t.Error(err)
	}
	agentd(t, append([]string{"etcd", "remove-agent", "a2"}, g.as("root")...)...).ok(t)
	if _, err := old.Put(ctx, "/agents/status/a2", "x"); err == nil {
		t.Error("an agent that was removed still writes")
	}
}

// TestBootstrapKnowsRootsPasswordWhateverWasThereBefore: one that somebody else
// set, and then forgot, would lock everybody out once authentication is on.
func TestBootstrapKnowsRootsPasswordWhateverWasThereBefore(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]*clientv3.UserAddOptions{"another password": {}, "no password": {NoPassword: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := &guarded{t: t, etcd: etcdtest.Start(t), passwords: filepath.Join(t.TempDir(), "passwords"), root: "/agents/"}
			password := "forgotten"
			if options.NoPassword {
				password = ""
			}
			if _, err := g.etcd.Client(t).UserAddWithOptions(t.Context(), "root", password, options); err != nil {
				t.Fatal(err)
			}
			g.bootstrap().ok(t)
			if _, err := g.client("root").UserList(g.context()); err != nil {
				t.Errorf("authentication is on, and root's password file does not log in: %v", err)
			}
		})
	}
}

// TestBootstrapDoesNotLockOutAgentsThatRun: their first call after
// authentication is on would be refused, and so would all after it.
func TestBootstrapDoesNotLockOutAgentsThatRun(t *testing.T) {
	t.Parallel()
	g := &guarded{t: t, etcd: etcdtest.Start(t), passwords: filepath.Join(t.TempDir(), "passwords"), root: "/agents/"}
	c := g.etcd.Client(t)
	for _, key := range []string{"a1", "a2", "no id"} {
		if _, err := c.Put(t.Context(), "/agents/registry/"+key, "{}"); err != nil {
			t.Fatal(err)
		}
	}
	g.bootstrap("--agent", "a1").fails(t, 1, "1 agents", "a2", "--prepare", "--lock-out")
	if users, err := c.UserList(t.Context()); err != nil || len(users.Users) > 0 {
		t.Errorf("a bootstrap that was refused made %v, %v", users.Users, err)
	}
	g.bootstrap("--agent", "a1", "--prepare").ok(t)
	g.bootstrap("--agent", "a1,a2", "--prepare").ok(t)
	g.bootstrap("--agent", "a1").ok(t) // a2 has a user by now
}

// TestOneNameIsOneUser with all roles that it is given, and no agent gets those
// of people.
func TestOneNameIsOneUser(t *testing.T) {
	t.Parallel()
	g := &guarded{t: t, etcd: etcdtest.Start(t), passwords: filepath.Join(t.TempDir(), "passwords"), root: "/agents/"}
	for _, name := range []string{"agent-a1", "root", "a/b", "x+y"} {
		g.bootstrap("--operator", name).fails(t, 2, "--operator", name)
	}
	g.bootstrap("--operator", "alice,alice", "--reader", "alice", "--agent", "a1,a1").ok(t)
	alice, err := g.client("root").UserGet(g.context(), "alice")
	if err != nil || !slices.Equal(alice.Roles, []string{"operator", "reader"}) {
		t.Errorf("alice has the roles %v, %v", alice, err)
	}
}

// TestFleetsThatShareAnEtcdShareNoNames: a bootstrap of one would else take the
// permissions of another away, and give them to itself.
func TestFleetsThatShareAnEtcdShareNoNames(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, root := range []string{"", "/edge/eu/", "/edge.eu/", "/edge/", "/edge/agent-x/", "/edge.agent-x/", "/agent-x/"} {
		fleet, err := access.NewFleet(root)
		if err != nil {
			t.Fatal(err)
		}
		names := []string{fleet.AgentName("a1"), fleet.AgentName("x.agent"), fleet.AgentName("eu.agent")}
		for _, r := range fleet.Roles() {
			names = append(names, r.Name)
		}
		for _, n := range names {
			if other, ok := seen[n]; ok {
				t.Errorf("%q is a name in the fleets at %q and %q", n, other, root)
			}
			if seen[n] = root; access.CheckUser(n) != nil {
				t.Errorf("%q is no name of a user", n)
			}
		}
	}
	for _, bad := range []string{"../agents", "a//b", "a+b", "a b", "-"} {
		agentd(t, "etcd", "bootstrap", "--etcd", "http://127.0.0.1:1", "--passwords", t.TempDir(), "--etcd-root", bad).fails(t, 2, "--etcd-root")
		agentd(t, "etcd", "certs", "create", "--dir", filepath.Join(t.TempDir(), "c"), "--etcd-root", bad, "--agent", "a").fails(t, 2, "--etcd-root")
	}
}

// TestNobodyReachesBeyondTheirRole tries what each role must not do, and what
// it must.
func TestNobodyReachesBeyondTheirRole(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "/agents/", "a1", "a2", "a11")
	ctx := g.context()
	admin := g.client("root")
	work := []string{"tasks/worker/a1", "tasks/inbox/a1/t", "tasks/claim/a1/t", "tasks/outcome/a1/t", "tasks/result/a1/t/1"}
	tasks := append([]string{"tasks/worker/a2", "tasks/worker/a11", "tasks/inbox/a2/t", "tasks/inbox/a11/t", "tasks/claim/a2/t", "tasks/outcome/a2/t", "tasks/result/a2/t/1",
		"tasks/leader", "tasks/spec/t", "tasks/state/t", "tasks/payload/t"}, work...)
	own := append([]string{"registry/a1", "status/a1", "plugins/a1/p", "order/a1"}, work...)
	for _, key := range append([]string{"registry/a2", "status/a2", "plugins/a2/p", "order/a2", "config/global", "config/group/g", "config/agent/a1",
		"config/agent/a2", "config-history/global/1", "plan/p", "freeze/p", "rollout/p/books", "rollout-document/p/d", "pin/test", "config-schema/x"}, own...) {
		if _, err := admin.Put(ctx, "/agents/"+key, "by root"); err != nil {
			t.Fatal(err)
		}
	}
	all := append([]string{"registry/a1", "registry/a2", "registry/a11", "status/a2", "plugins/a2/p", "plugins/a11/p", "plugins/a1", "order/a2", "config/global", "config/group/g",
		"config/agent/a1", "config/agent/a2", "config-history/global/1", "plan/p", "freeze/p", "rollout/p/books", "rollout-document/p/d", "pin/test", "config-schema/x", "other"}, tasks...)
	for user, may := range map[string]struct{ write, read []string }{
		"agent-a1": {append(own, "config-schema/x"), append(own, "config-schema/x", "config/global", "config/group/g", "config/agent/a1", "plan/p", "freeze/p", "rollout-document/p/d", "pin/test")},
		"operator": {append([]string{"config/global", "config/group/g", "config/agent/a1", "config/agent/a2", "config-history/global/1", "order/a1", "order/a2", "plan/p", "freeze/p", "rollout/p/books", "rollout-document/p/d", "pin/test"}, tasks...),
			slices.Concat(all, own)},
		"dispatcher": {tasks, tasks},
		"controller": {[]string{"plan/p", "rollout/p/books", "pin/test", "config/global", "config/group/g", "config/agent/a1", "config/agent/a2", "config-history/global/1"}, slices.Concat(all, own)},
		"reader": {nil, []string{"registry/a1", "registry/a2", "registry/a11", "status/a1", "status/a2", "plugins/a1", "plugins/a1/p", "plugins/a2/p", "plugins/a11/p",
			"plan/p", "freeze/p", "rollout/p/books", "pin/test", "config-schema/x"}},
	} {
		c := g.client(user)
		for _, key := range slices.Concat(all, own) {
			full := "/agents/" + key
			_, put := c.Put(ctx, full, "by "+user)
			_, del := c.Txn(ctx).If(clientv3.Compare(clientv3.Version("/agents/none"), ">", 0)).Then(clientv3.OpDelete(full)).Commit()
			_, get := c.Get(ctx, full)
			if can := put == nil; can != slices.Contains(may.write, key) {
				t.Errorf("%s writes %s: %v", user, key, put)
			}
			if del == nil && !slices.Contains(may.write, key) {
				t.Errorf("%s may delete %s", user, key)
			}
			if can := get == nil; can != slices.Contains(may.read, key) {
				t.Errorf("%s reads %s: %v", user, key, get)
			}
		}
		if _, err := c.Get(ctx, "/", clientv3.WithPrefix()); err == nil {
			t.Errorf("%s reads everything", user)
		}
		if _, err := c.UserList(ctx); err == nil {
			t.Errorf("%s lists the users", user)
		}
	}
	g.leases(ctx)
	a2 := g.client("agent-a2")
	if _, err := a2.Put(ctx, "/agents/plan/p", "by a2"); err == nil {
		t.Error("an agent that nobody chose moves rollouts on")
	}
	agentd(t, slices.Concat([]string{"etcd", "add-agent", "--control", "--passwords", g.passwords, "a2"}, g.as("root"))...).ok(t)
	for _, key := range []string{"plan/p", "rollout/p/leader", "pin/test", "config/global"} {
		if _, err := a2.Put(ctx, "/agents/"+key, "by a2"); err != nil {
			t.Errorf("an agent with --control: %s: %v", key, err)
		}
	}
}

// leases checks what one agent can do with the lease of another: with this
// etcd nothing, once a key hangs on it.
func (g *guarded) leases(ctx context.Context) {
	a1, a2 := g.client("agent-a1"), g.client("agent-a2")
	lease, err := a1.Grant(ctx, 600)
	if err != nil {
		g.t.Fatal(err)
	}
	if _, err := a1.Put(ctx, "/agents/registry/a1", "x", clientv3.WithLease(lease.ID)); err != nil {
		g.t.Fatal(err)
	}
	if _, err := a2.Put(ctx, "/agents/registry/a2", "x", clientv3.WithLease(lease.ID)); err == nil {
		g.t.Error("an agent hangs its key on the lease of another")
	}
	if _, err := a2.Revoke(ctx, lease.ID); err == nil {
		g.t.Error("an agent revokes the lease of another")
	}
	if _, err := a2.KeepAliveOnce(ctx, lease.ID); err == nil {
		g.t.Error("an agent keeps the lease of another alive")
	}
	if r, err := a2.TimeToLive(ctx, lease.ID); err != nil || r.TTL <= 0 {
		g.t.Errorf("the duplicate's message needs the time that is left: %v, %v", r, err)
	}
}

// TestAgentdRunsWithItsOwnRoleAndStaysBelowItsRoot from the registration to
// an order's end, and touches no key outside.
func TestAgentdRunsWithItsOwnRoleAndStaysBelowItsRoot(t *testing.T) {
	t.Parallel()
	const root = "x/fleet.one" // without slashes around
	g := newGuarded(t, root, "a1")
	s := newSite(t)
	fleet, err := access.NewFleet(root)
	if err != nil {
		t.Fatal(err)
	}
	user := fleet.AgentName("a1")
	s.release("1.0.0", "1.1.0")
	p := s.start(append(g.as(user), "--group", "web", "--log-level", "debug", "--no-dispatch")...)
	operator := g.as(fleet.Name("operator"))
	call := func(args ...string) result { return agentd(t, append(args, operator...)...) }

	call("config", "put", "global", writeFile(t, "log: {level: debug}")).ok(t)
	call("config", "put", "group/web", writeFile(t, "log: {level: warn}")).ok(t)
	call("config", "put", "global", writeFile(t, "log: {level: error}")).ok(t)
	waittest.Until(t, "the configuration is in force", func() bool { return s.mustInfo().ConfigOrigin == "etcd" && s.mustInfo().ConfigRevision > 0 })
	agentd(t, append([]string{"upgrade", "--agent", "a1", "--repo", s.repo, "--trust", s.trust, "1.1.0"}, operator...)...).ok(t)
	waittest.Until(t, "the new release runs", func() bool { return s.mustInfo().Version == "1.1.0" })
	agentd(t, append([]string{"rollback", "--agent", "a1", "--expect", "any"}, operator...)...).ok(t)
	reader := g.as(fleet.Name("reader"))
	r := agentd(t, append([]string{"fleet", "-o", "json"}, reader...)...).ok(t)
	if !strings.Contains(r.stdout, `"a1"`) {
		t.Errorf("the registry shows\n%s", r.stdout)
	}
	if text := p.logged(); strings.Contains(text, "permission denied") {
		t.Errorf("the agent was refused something:\n%s", text)
	}
	if status(s.url(s.admin, "/readyz")) != http.StatusOK {
		t.Error("the agent is not ready")
	}

	ctx := g.context()
	all, err := g.client("root").Get(ctx, "", clientv3.WithFromKey(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, kv := range all.Kvs {
		rest, ok := strings.CutPrefix(string(kv.Key), "/x/fleet.one/")
		if !ok {
			t.Errorf("key %q is outside of the root", kv.Key)
		}
		kind, _, _ := strings.Cut(rest, "/")
		seen[kind] = true
	}
	for _, kind := range []string{"registry", "status", "config", "config-history"} {
		if !seen[kind] {
			t.Errorf("no key of %s is there: the test looked at the wrong place", kind)
		}
	}
	for _, bad := range []string{"../agents", "a//b", "a/./b", "a b", "a\n", "ü", "-"} {
		if _, err := agent.OpenDirectory(agent.EtcdConfig{Endpoints: []string{g.etcd.URL()}, Root: bad}); err == nil {
			t.Errorf("the root %q is accepted", bad)
		}
	}
}
