package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

func TestAgentIsInTheRegistryExactlyWhileItRuns(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1").start()
	e := m.registered()
	if e.Version != "1.0.0" || e.PID != m.cmd.Process.Pid || e.Labels["env"] != "test" || len(e.BinaryDigest) != 64 || e.Instance == "" {
		t.Errorf("registration: %+v", e.Registration)
	}
	if !e.Status.Health.Live || !e.Status.Health.Ready {
		t.Errorf("health: %+v", e.Status.Health)
	}
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-m.done
	if m.err != nil {
		t.Errorf("SIGTERM ended the agent with %v, want 0", m.err)
	}
	entries, err := listed(f.ctx(), f.dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("after a clean stop the registry holds %+v, %v", entries, err)
	}
}

func TestSecondAgentWithTheSameIDIsRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	first := f.member("a1").start()
	before := first.registered()
	second := f.member("a1").start()
	second.fails(fmt.Sprintf("agent id a1 is registered by another agent on host %s with pid %d", before.Host, before.PID))
	if after := first.registered(); after.PID != before.PID || after.Instance != before.Instance {
		t.Errorf("the first agent's registration became %+v", after.Registration)
	}
}

func TestAgentThatWasKilledTakesItsRegistrationBackAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1").start()
	m.registered()
	m.kill()
	m.start()
	m.takesOver()
}

func TestLostLeaseIsRegisteredAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1").start()
	m.registered()
	client := f.etcd.Client(t)
	lost := lease(t, f, client, "a1")
	if _, err := client.Revoke(f.ctx(), lost); err != nil {
		t.Fatal(err)
	}
	waittest.Nil(f, "another lease", func() error {
		if now := lease(t, f, client, "a1"); now == lost || now == 0 {
			return fmt.Errorf("lease %x", now)
		}
		return nil
	})
	m.registered()
}

func lease(t testing.TB, f *fleet, client *clientv3.Client, id string) clientv3.LeaseID {
	t.Helper()
	res, err := client.Get(f.ctx(), newKeys("").registry(id))
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Kvs) == 0 {
		return 0
	}
	return clientv3.LeaseID(res.Kvs[0].Lease)
}

func TestFirstStartWithoutEtcdFailsInOneSentence(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.etcd.Stop()
	m := f.member("a1").start()
	m.fails("did not answer within 2s")
	for _, left := range []string{"current", "slots", "instance.json", "config.json"} {
		if _, err := os.Lstat(filepath.Join(m.state, left)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the failed start left %s behind: %v", left, err)
		}
	}
}

func TestAgentThatWasRegisteredStartsWithoutEtcdOnItsLastConfiguration(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	client := f.etcd.Client(t)
	if _, err := config.Put(f.ctx(), client, "", "group/web", []byte("greeting: good day\n")); err != nil {
		t.Fatal(err)
	}
	m := f.member("a1").start()
	m.registered()
	m.kill()
	f.etcd.Stop()
	m.start()
	waittest.Nil(f, "the agent serves its last configuration", func() error {
		greeting, err := m.greets()
		if err == nil && greeting != "good day" {
			err = fmt.Errorf("it said %q", greeting)
		}
		return err
	})
	f.etcd.Restart()
	m.takesOver()
}

func TestUpgradeByOrderKeepsTheAgentInTheRegistry(t *testing.T) {
	f := newFleet(t)
	m := f.member("a1").start()
	before := m.registered()
	client := f.etcd.Client(t)
	vigil := keepVigil(m, client)
	pin := f.publish(build{Version: "1.1.0"})
	order, err := f.dir.Order(f.ctx(), "a1", upgrade.Request{Pin: pin, Expect: "1.0.0", By: "test"})
	if err != nil {
		t.Fatal(err)
	}
	var states []upgrade.State
	end, err := f.dir.Follow(f.ctx(), order, "a1", func(s upgrade.Status) { states = append(states, s.State) })
	if err != nil || end.State != upgrade.Committed || end.Running.Version != "1.1.0" {
		t.Fatalf("order ended %s (%s), %v; seen %v", end.State, end.Reason, err, states)
	}
	<-m.done
	if m.err != nil {
		t.Errorf("the superseded process ended with %v, want 0", m.err)
	}
	after := m.registered()
	if after.Version != "1.1.0" || after.ManifestDigest != pin.Digest || after.PID == before.PID || after.Instance != before.Instance {
		t.Errorf("registration: %+v", after.Registration)
	}
	waittest.Nil(f, "the order is acknowledged", func() error {
		res, err := client.Get(f.ctx(), newKeys("").order("a1"))
		if err == nil && len(res.Kvs) > 0 {
			err = errors.New("the order is still there")
		}
		return err
	})
	vigil.end()
}

func TestFailedUpgradeIsToldInEtcdWithWhatRunsAndWhatFailed(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1").start()
	before := m.registered()
	pin := f.publish(build{Version: "1.1.0", Sick: true})
	order, err := f.dir.Order(f.ctx(), "a1", upgrade.Request{Pin: pin, By: "test"})
	if err != nil {
		t.Fatal(err)
	}
	end, err := f.dir.Follow(f.ctx(), order, "a1", func(upgrade.Status) {})
	if err != nil {
		t.Fatal(err)
	}
	if end.State != upgrade.RolledBack || !strings.Contains(end.Reason, "always sick") || len(end.Log) == 0 {
		t.Errorf("ended %s (%s) with %d lines of log", end.State, end.Reason, len(end.Log))
	}
	if end.Running.Version != "1.0.0" || end.LastFailed == nil || end.LastFailed.Manifest != pin.Digest {
		t.Errorf("running %+v, last failed %+v", end.Running, end.LastFailed)
	}
	if after := m.registered(); after.PID != before.PID || after.Version != "1.0.0" {
		t.Errorf("registration: %+v", after.Registration)
	}
}

func TestOrderForAnUnknownAgentIsRefused(t *testing.T) {
	f := newFleet(t)
	pin := release.Pin{Version: "1.1.0", Digest: "sha256:" + strings.Repeat("0", 64)}
	if _, err := f.dir.Order(f.ctx(), "nobody", upgrade.Request{Pin: pin}); !errors.Is(err, ErrNotRegistered) || !strings.Contains(err.Error(), "(agentd fleet)") {
		t.Errorf("%v, want ErrNotRegistered and the command that lists agents", err)
	}
}

func TestUnreadableOrderIsToldAndChangesNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1").start()
	m.registered()
	client := f.etcd.Client(t)
	for _, c := range []struct{ value, want string }{
		{`{`, "not JSON"},
		{`{"schema":2}`, "schema 2"},
		{`{"schema":1,"id":"x","action":"dance"}`, `asks for "dance"`},
		{`{"schema":1,"id":"x","action":"upgrade","pin":{"version":"latest"}}`, "write the version"},
	} {
		if _, err := client.Put(f.ctx(), newKeys("").order("a1"), c.value); err != nil {
			t.Fatal(err)
		}
		waittest.Nil(f, "the status tells "+c.want, func() error {
			if e := m.registered(); !strings.Contains(e.Status.OrderError, c.want) {
				return fmt.Errorf("order error %q", e.Status.OrderError)
			}
			return nil
		})
	}
	if e := m.registered(); e.Status.Upgrade.State != upgrade.Idle {
		t.Errorf("upgrade is %s", e.Status.Upgrade.State)
	}
}

func TestSupersededProcessCannotWrite(t *testing.T) {
	f := newFleet(t)
	client := f.etcd.Client(t)
	inst, err := openInstance(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	lease, err := client.Grant(f.ctx(), 30)
	if err != nil {
		t.Fatal(err)
	}
	incumbent := &registry{client: client, keys: newKeys(""), id: "a1", instance: inst}
	successor := &registry{client: client, keys: newKeys(""), id: "a1", instance: inst}
	reg := func(version string) Registration {
		return Registration{Schema: schema, ID: "a1", Instance: inst.ID, Version: version}
	}
	if err := incumbent.register(f.ctx(), 0, reg("1.0.0")); err == nil {
		t.Error("registered without a lease, and so for ever")
	}
	if err := incumbent.register(f.ctx(), int64(lease.ID), reg("1.0.0")); err != nil {
		t.Fatal(err)
	}
	if err := successor.register(f.ctx(), int64(lease.ID), reg("1.1.0")); err != nil {
		t.Fatal(err)
	}
	if _, err := incumbent.write(f.ctx(), reg("1.0.0"), Status{Schema: schema}, nil, false); !errors.Is(err, errFenced) {
		t.Errorf("the superseded process wrote: %v", err)
	}
	entries, err := listed(f.ctx(), f.dir)
	if err != nil || len(entries) != 1 || entries[0].Version != "1.1.0" {
		t.Errorf("registry: %+v, %v", entries, err)
	}
}

// idle configures an agent that does nothing and reaches no etcd.
func idle(t *testing.T) Config {
	t.Helper()
	return Config{
		ID: "a1", Version: "1.0.0", StateDir: t.TempDir(), Etcd: EtcdConfig{Endpoints: []string{"http://127.0.0.1:1"}},
		Start: func(context.Context, *Agent) error { return nil },
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	if _, err := New(idle(t)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		edit func(*Config)
		want string
	}{
		"path in id":       {func(c *Config) { c.ID = "../x" }, "agent id"},
		"slash in group":   {func(c *Config) { c.Groups = []string{"a/b"} }, "group"},
		"floating version": {func(c *Config) { c.Version = "latest" }, "version"},
		"no endpoint":      {func(c *Config) { c.Etcd.Endpoints = nil }, "Endpoints"},
		"no state":         {func(c *Config) { c.StateDir = "" }, "StateDir"},
		"no start":         {func(c *Config) { c.Start = nil }, "Start"},
	} {
		cfg := idle(t)
		c.edit(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error that names %s", name, err, c.want)
		}
	}
}

func TestSlowEventReaderSeesTheNewestState(t *testing.T) {
	l := newLifecycle(func() {})
	ctx, cancel := context.WithCancel(context.Background())
	events := l.subscribe(ctx)
	for i := range 3 * eventBuffer {
		l.set(Running, fmt.Sprint(i))
	}
	l.set(Terminating, "stop")
	l.set(Running, "must not come back")
	cancel()
	var last Event
	for e := range events {
		last = e
	}
	if last.State != Terminating {
		t.Errorf("the last event is %+v", last)
	}
}

func TestReadinessIsLostWithTheRegistrationAndComesBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1")
	m.env.TTL = 2 * time.Second
	m.start()
	m.registered()
	ready := func(want string) func() error {
		return func() error {
			got, err := m.get("/readyz?verbose")
			if err == nil && !strings.Contains(got, want) {
				err = fmt.Errorf("readyz says %q, want %q", got, want)
			}
			return err
		}
	}
	waittest.Nil(f, "ready", ready("[+] registration ok"))
	f.etcd.Stop()
	waittest.Nil(f, "not ready without etcd for a TTL", ready("etcd has not answered"))
	f.etcd.Restart()
	waittest.Nil(f, "ready again", ready("[+] registration ok"))
	m.registered()
}

func TestDirectoryWatchSeesAgentsComeAndGo(t *testing.T) {
	f := newFleet(t)
	ctx, cancel := context.WithCancel(f.ctx())
	defer cancel()
	seen := make(chan int, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- f.dir.Watch(ctx, func(s *Snapshot, _ Changes) { seen <- s.Len() })
	}()
	await := func(want int) {
		t.Helper()
		for {
			select {
			case n := <-seen:
				if n == want {
					return
				}
			case <-f.ctx().Done():
				t.Fatalf("the directory never showed %d agents", want)
			}
		}
	}
	await(0)
	m := f.member("a1").start()
	await(1)
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	await(0)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch ended with %v", err)
	}
}

func TestGoBeforeRunIsAnErrorOfRun(t *testing.T) {
	a, err := New(idle(t))
	if err != nil {
		t.Fatal(err)
	}
	a.Go("early", func(context.Context) error { return nil })
	if err := a.Run(t.Context()); !errors.Is(err, errNotStarted) {
		t.Errorf("Run returned %v", err)
	}
}

func TestRefusedConfigurationIsToldInEtcdAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1").start()
	m.registered()
	client := f.etcd.Client(t)
	good, err := config.Put(f.ctx(), client, "", "agent/a1", []byte("greeting: hi"))
	if err != nil {
		t.Fatal(err)
	}
	waittest.Nil(f, "the good revision", func() error {
		if c := m.registered().Status.Config; c.Running != good {
			return fmt.Errorf("%+v", *c)
		}
		return nil
	})
	bad, err := config.Put(f.ctx(), client, "", "global", []byte("greting: hi"))
	if err != nil {
		t.Fatal(err)
	}
	waittest.Nil(f, "running, wanted and failed revision", func() error {
		c := m.registered().Status.Config
		if c.Running != good || c.Wanted != bad || c.LastFailed == nil || c.LastFailed.Revision != bad || !strings.Contains(c.LastFailed.Reason, "greting") {
			return fmt.Errorf("status %+v", *c)
		}
		return nil
	})
	if greeting, err := m.greets(); err != nil || greeting != "hi" {
		t.Errorf("it says %q, %v: the bad document changed something", greeting, err)
	}
}
