package agent

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
)

// longTTL is one with which neither a beat nor the end of a lease comes while a
// test waits.
const longTTL = 10 * time.Minute

// found reads key; nil if there is none.
func (f *fleet) found(c *clientv3.Client, key string) (value []byte, lease, created int64) {
	f.Helper()
	res, err := c.Get(f.ctx(), key)
	if err != nil {
		f.Fatal(err)
	}
	if len(res.Kvs) == 0 {
		return nil, 0, 0
	}
	return res.Kvs[0].Value, res.Kvs[0].Lease, res.Kvs[0].CreateRevision
}

func TestRevokedLeaseIsNoticedLongBeforeTheNextBeat(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1")
	m.env.TTL = longTTL
	m.start()
	m.registered()
	client := f.etcd.Client(t)
	lost := lease(t, f, client, "a1")
	if _, err := client.Revoke(f.ctx(), lost); err != nil {
		t.Fatal(err)
	}
	waittest.Nil(f, "status and registration under another lease", func() error {
		if now := lease(t, f, client, "a1"); now == lost || now == 0 {
			return fmt.Errorf("lease %x", now)
		}
		if p := m.registered().Status.Presence; p.LeasesLost != 1 || p.LeasesGranted != 2 || p.Registrations < 2 {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
}

// TestKeysThatSomebodyDamagesAreMendedAtOnce: a live agent would otherwise be
// missing, or tell lies, until its next write, and a registration for ever.
func TestKeysThatSomebodyDamagesAreMendedAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1")
	m.env.TTL, m.env.StatusEvery = longTTL, longTTL
	m.start()
	m.registered()
	client := f.etcd.Client(t)
	k := newKeys("")
	held := lease(t, f, client, "a1")
	for _, c := range []struct {
		name   string
		damage clientv3.Op
	}{
		{"registration deleted", clientv3.OpDelete(k.registry("a1"))},
		{"status deleted", clientv3.OpDelete(k.status("a1"))},
		{"registration replaced by junk", clientv3.OpPut(k.registry("a1"), "\x00junk")},
		{"registration replaced by one of a newer schema", clientv3.OpPut(k.registry("a1"), `{"schema":99}`)},
		{"status replaced by junk", clientv3.OpPut(k.status("a1"), "[]")},
		{"plugin added", clientv3.OpPut(k.plugin("a1", "ghost"), "{}")},
	} {
		before := m.registered().Status.Presence.Restorations
		if _, err := client.Do(f.ctx(), c.damage); err != nil {
			t.Fatal(err)
		}
		// A status is not always restored: a write that was due may come first.
		if !strings.HasPrefix(c.name, "status") {
			before++
		}
		waittest.Nil(f, c.name+": it is as before", func() error {
			e := m.registered()
			if e.Error != "" || e.PID != m.cmd.Process.Pid || e.Status.Presence.Restorations < before {
				return fmt.Errorf("%+v, %+v", e, e.Status.Presence)
			}
			if ghost, _, _ := f.found(client, k.plugin("a1", "ghost")); ghost != nil {
				return errors.New("the plugin that nobody has is there")
			}
			for _, key := range []string{k.registry("a1"), k.status("a1")} {
				if _, now, _ := f.found(client, key); clientv3.LeaseID(now) != held {
					return fmt.Errorf("%s hangs on lease %x, want %x, which lives", key, now, held)
				}
			}
			return nil
		})
	}
	if r := m.registered().Status.Presence.LastRestored; r == nil || r.Keys == 0 || r.Key == "" {
		t.Errorf("the status tells of the last restoration: %+v", r)
	}
}

// TestPluginKeysOfACrashedProcessGo: a plugin that no longer exists would
// otherwise be shown as long as the restarted agent lives.
func TestPluginKeysOfACrashedProcessGo(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1").start()
	m.registered()
	client := f.etcd.Client(t)
	ghost := newKeys("").plugin("a1", "ghost")
	m.kill() // first, or it would see to the key itself
	if _, err := client.Put(f.ctx(), ghost, `{"schema":1,"name":"ghost"}`); err != nil {
		t.Fatal(err)
	}
	m.start()
	m.takesOver()
	waittest.Until(f, "the plugin's key is gone", func() bool { v, _, _ := f.found(client, ghost); return v == nil })
}

// TestIdleAgentWritesItsStatusAndNothingElse: what 10,000 agents write without
// need is load on etcd for ever.
func TestIdleAgentWritesItsStatusAndNothingElse(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1")
	m.env.StatusEvery = 300 * time.Millisecond
	m.start()
	m.registered()
	client := f.etcd.Client(t)
	// A first write may still be about the start.
	settled := m.registered().Status.At
	waittest.Until(f, "a beat", func() bool { return m.registered().Status.At.After(settled) })
	res, err := client.Get(f.ctx(), newKeys("").registry("a1"))
	if err != nil {
		t.Fatal(err)
	}
	from, beats := res.Header.Revision, int64(0)
	for res := range client.Watch(m.longCtx(), "", clientv3.WithPrefix(), clientv3.WithRev(from+1)) {
		for _, e := range res.Events {
			if beats++; string(e.Kv.Key) != newKeys("").status("a1") || e.Type != clientv3.EventTypePut {
				t.Errorf("%s %s: want nothing but the status", e.Type, e.Kv.Key)
			}
			if e.Kv.ModRevision != from+beats {
				t.Errorf("beat %d has revision %d, want %d: something else was written", beats, e.Kv.ModRevision, from+beats)
			}
		}
		if beats >= 10 {
			return
		}
	}
}

// TestFleetsHeartbeatIsSetByADocument: an operator could otherwise change it
// only by changing every program's flags.
func TestFleetsHeartbeatIsSetByADocument(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1").start()
	before := m.registered()
	client := f.etcd.Client(t)
	first := lease(t, f, client, "a1")
	_, _, created := f.found(client, newKeys("").registry("a1"))
	put := func(doc string) int64 {
		t.Helper()
		rev, err := config.Put(f.ctx(), client, "", "global", []byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		return rev
	}
	beats := func(ttl, every float64) {
		t.Helper()
		waittest.Nil(f, fmt.Sprintf("a TTL of %v s and a beat of %v s", ttl, every), func() error {
			e := m.registered()
			if p := e.Status.Presence; p.TTL != ttl || p.HeartbeatEvery != every || e.HeartbeatEvery != every {
				return fmt.Errorf("%+v, registration %v", p, e.HeartbeatEvery)
			}
			return nil
		})
	}
	beats(5, 1)
	put("perennial: {heartbeat: {ttl: 90s, every: 2s}}\n")
	beats(90, 2)
	if ttl, err := client.TimeToLive(f.ctx(), lease(t, f, client, "a1")); err != nil || ttl.GrantedTTL != 90 {
		t.Errorf("etcd says %d s, %v", ttl.GrantedTTL, err)
	}
	if ttl, err := client.TimeToLive(f.ctx(), first); err != nil || ttl.TTL >= 0 {
		t.Errorf("the former lease has %d s, %v, want none", ttl.TTL, err)
	}
	if _, _, now := f.found(client, newKeys("").registry("a1")); now != created {
		t.Error("the registration left the registry for a moment")
	}

	for _, bad := range []string{
		"perennial: {heartbeat: {ttl: 10s, every: 6s}}\n",
		"perennial: {heartbeat: {ttl: 2h}}\n",
		"perennial: {heartbeat: {every: 1ms}}\n",
		"perennial: {heartbeat: {every: 20s}}\n", // with this program's TTL
		"perennial: {hartbeat: {}}\n",
	} {
		rev := put(bad)
		waittest.Nil(f, bad+" is refused", func() error {
			if c := m.registered().Status.Config; c.LastFailed == nil || c.LastFailed.Revision != rev || !strings.Contains(c.LastFailed.Reason, "perennial") {
				return fmt.Errorf("the status says %+v", *c)
			}
			return nil
		})
	}
	beats(90, 2)

	// A successor carries on with it, on the same lease.
	put("perennial: {heartbeat: {ttl: 90s, every: 2s}}\n")
	v := keepVigil(m, client)
	m.upgrades(build{Version: "1.1.0"})
	if pid := m.runs("1.1.0"); pid == before.PID {
		t.Error("the upgrade left the process")
	}
	beats(90, 2)
	v.end()
	put("greeting: hello\n")
	beats(5, 1)
}

// TestAcknowledgementsSpreadAndAnswersDoNotWait: 10,000 acknowledgements at
// once are refused by etcd with "too many requests", and an operator who
// follows an order waits for no jitter.
func TestAcknowledgementsSpreadAndAnswersDoNotWait(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1")
	m.env.Spread = 24 * time.Hour
	m.start()
	client := f.etcd.Client(t)
	refuse := func(action string) {
		t.Helper()
		if _, err := client.Put(f.ctx(), newKeys("").order("a1"), `{"schema":1,"id":"x","action":"`+action+`"}`); err != nil {
			t.Fatal(err)
		}
		waittest.Nil(f, "the status answers the order to "+action, func() error {
			if e := m.registered(); !strings.Contains(e.Status.OrderError, action) {
				return fmt.Errorf("order error %q", e.Status.OrderError)
			}
			return nil
		})
	}
	refuse("dance")
	rev, err := config.Put(f.ctx(), client, "", "global", []byte("greeting: moin"))
	if err != nil {
		t.Fatal(err)
	}
	waittest.Nil(f, "the document is applied", func() error {
		greeting, err := m.greets()
		if err == nil && greeting != "moin" {
			err = fmt.Errorf("it says %q", greeting)
		}
		return err
	})
	if e := m.registered(); e.Status.Config.Running == rev {
		t.Error("the document was acknowledged at once")
	}
	refuse("sing")
	if e := m.registered(); e.Status.Config.Running != rev {
		t.Errorf("%+v: what is written tells all there is to tell", e.Status.Config)
	}
}

// TestOrderIsNotAcknowledgedByAProcessThatWasSuperseded: it would take away
// what its successor, or another agent, has yet to do.
func TestOrderIsNotAcknowledgedByAProcessThatWasSuperseded(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	client := f.etcd.Client(t)
	old, next := f.registryOf(t, client, t.TempDir()), f.registryOf(t, client, "")
	next.instance = old.instance
	order := newKeys("").order("a1")
	granted, err := client.Grant(f.ctx(), 60)
	if err != nil {
		t.Fatal(err)
	}
	reg := Registration{Schema: schema, ID: "a1", Instance: old.instance.ID}
	if err := old.register(f.ctx(), int64(granted.ID), reg); err != nil {
		t.Fatal(err)
	}
	put, err := client.Put(f.ctx(), order, "{}")
	if err != nil {
		t.Fatal(err)
	}
	if err := next.register(f.ctx(), int64(granted.ID), reg); err != nil {
		t.Fatal(err)
	}
	if err := old.acknowledge(f.ctx(), order, put.Header.Revision); !errors.Is(err, errFenced) {
		t.Errorf("the superseded process acknowledged: %v", err)
	}
	if v, _, _ := f.found(client, order); v == nil {
		t.Error("the order is gone")
	}
	if err := next.acknowledge(f.ctx(), order, put.Header.Revision-1); err != nil {
		t.Errorf("an order that was replaced: %v, want nothing to do", err)
	}
	if err := next.acknowledge(f.ctx(), order, put.Header.Revision); err != nil {
		t.Error(err)
	}
	if v, _, _ := f.found(client, order); v != nil {
		t.Error("the order that was answered is still there")
	}
}

// registryOf is a registry for a1, with an instance of its own where dir is
// not empty.
func (f *fleet) registryOf(t *testing.T, c *clientv3.Client, dir string) *registry {
	t.Helper()
	r := &registry{client: c, keys: newKeys(""), id: "a1"}
	if dir != "" {
		var err error
		if r.instance, err = openInstance(dir); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// TestMoreKeysThanOneTransactionTakesAreWrittenAndMoved: an agent with 120
// plugins would otherwise never be seen.
func TestMoreKeysThanOneTransactionTakesAreWrittenAndMoved(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	client := f.etcd.Client(t)
	r := f.registryOf(t, client, t.TempDir())
	reg := Registration{Schema: schema, ID: "a1", Instance: r.instance.ID}
	var plugins []PluginRecord
	for i := range 250 {
		p := PluginRecord{Schema: schema}
		p.Name = fmt.Sprintf("p%03d", i)
		plugins = append(plugins, p)
	}
	for i := range 2 {
		granted, err := client.Grant(f.ctx(), 60)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.register(f.ctx(), int64(granted.ID), reg); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := r.write(f.ctx(), reg, Status{Schema: schema}, plugins); err != nil {
				t.Fatal(err)
			}
		}
		ttl, err := client.TimeToLive(f.ctx(), granted.ID, clientv3.WithAttachedKeys())
		if err != nil || len(ttl.Keys) != 252 {
			t.Errorf("%d keys hang on lease %d (%v), want 252", len(ttl.Keys), i, err)
		}
	}
	if err := r.write(f.ctx(), reg, Status{Schema: schema}, plugins[:1]); err != nil {
		t.Fatal(err)
	}
	e, err := f.dir.Get(f.ctx(), "a1")
	if err != nil || len(e.Plugins) != 1 {
		t.Errorf("%d plugins are left (%v), want 1", len(e.Plugins), err)
	}
}

// writers returns the pids that wrote the registration after revision from, in
// order, without repetitions.
func (f *fleet) writers(c *clientv3.Client, from int64) []int {
	f.Helper()
	now, err := c.Get(f.ctx(), newKeys("").registry("a1"))
	if err != nil {
		f.Fatal(err)
	}
	var pids []int
	if len(now.Kvs) > 0 && now.Kvs[0].ModRevision <= from {
		return nil
	}
	watch := c.Watch(f.ctx(), newKeys("").registry("a1"), clientv3.WithRev(from+1))
	for len(now.Kvs) > 0 {
		res, ok := <-watch
		if !ok {
			f.Fatal("the watch ended")
		}
		for _, e := range res.Events {
			var r Registration
			if e.Type == clientv3.EventTypePut {
				if err := decode("registration", e.Kv.Value, &r); err != nil {
					f.Fatal(err)
				}
				pids = append(pids, r.PID)
			}
			if e.Kv.ModRevision >= now.Kvs[0].ModRevision {
				return slices.Compact(pids)
			}
		}
	}
	return nil
}

// sleeps stops m's process until its registration has ended with its lease.
func (m *member) sleeps(c *clientv3.Client) {
	m.Helper()
	if err := syscall.Kill(m.cmd.Process.Pid, syscall.SIGSTOP); err != nil {
		m.Fatal(err)
	}
	waittest.Until(m, "the lease of the sleeper ends", func() bool { return lease(m, m.fleet, c, m.id) == 0 })
}

func (m *member) wakes() {
	m.Helper()
	if err := syscall.Kill(m.cmd.Process.Pid, syscall.SIGCONT); err != nil {
		m.Fatal(err)
	}
}

func TestSleeperRegistersAnewWhenItWakesAndIsAlone(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1")
	m.env.TTL = 2 * time.Second
	m.start()
	m.registered()
	client := f.etcd.Client(t)
	old := lease(t, f, client, "a1")
	m.sleeps(client)
	m.wakes()
	m.takesOver()
	if now := lease(t, f, client, "a1"); now == old || now == 0 {
		t.Errorf("lease %x, want another than %x", now, old)
	}
}

// TestSleeperIsRefusedWhereAnotherRegisteredMeanwhile: two agents would
// otherwise write over each other.
func TestSleeperIsRefusedWhereAnotherRegisteredMeanwhile(t *testing.T) {
	t.Parallel()
	for name, copied := range map[string]bool{"another agent": false, "a copy of its state directory": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			first := f.member("a1")
			first.env.TTL = 2 * time.Second
			first.start()
			first.registered()
			client := f.etcd.Client(t)
			second := f.member("a1")
			if second.env.TTL = 2 * time.Second; copied {
				second.copies(first)
			}
			first.sleeps(client)
			second.start()
			second.takesOver()
			taken, err := client.Get(f.ctx(), newKeys("").registry("a1"))
			if err != nil {
				t.Fatal(err)
			}
			first.wakes()
			first.fails(fmt.Sprintf("with pid %d", second.cmd.Process.Pid))
			if !strings.Contains(first.said(), "agent id is taken") {
				t.Errorf("it said\n%s", first.said())
			}
			second.takesOver()
			if pids := f.writers(client, taken.Header.Revision); len(pids) > 0 && !slices.Equal(pids, []int{second.cmd.Process.Pid}) {
				t.Errorf("%v wrote the registration after %d had: want nobody else", pids, second.cmd.Process.Pid)
			}
		})
	}
}

// TestSleeperWhoseSuccessorRegisteredMeanwhileWritesNothing: an incumbent that
// wakes between the commit and its end would otherwise take the registration
// back from the release that runs.
func TestSleeperWhoseSuccessorRegisteredMeanwhileWritesNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	p := pauseAt(f.member("a1"), build{Version: "1.1.0"}, "commit-sent")
	client := f.etcd.Client(t)
	successor := p.runs("1.1.0")
	incumbent := p.cmd.Process.Pid
	if err := syscall.Kill(incumbent, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	lost := lease(t, f, client, "a1")
	if _, err := client.Revoke(f.ctx(), lost); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the successor registers under another lease", func() bool {
		now := lease(t, f, client, "a1")
		return now != 0 && now != lost
	})
	here, err := client.Get(f.ctx(), newKeys("").registry("a1"))
	if err != nil {
		t.Fatal(err)
	}
	p.wakes()
	waittest.Until(t, "the incumbent finds its lease gone", func() bool {
		return strings.Contains(p.said(), "etcd lease lost: asking for another") &&
			strings.Contains(p.said(), errNotInCharge.Error())
	})
	p.goOn()
	<-p.done
	if p.err != nil {
		t.Errorf("the superseded process ended with %v, want 0", p.err)
	}
	if pid := p.runs("1.1.0"); pid != successor {
		t.Errorf("pid %d is registered, want %d", pid, successor)
	}
	if pids := f.writers(client, here.Header.Revision); slices.Contains(pids, incumbent) {
		t.Errorf("%v wrote the registration, the superseded %d among them", pids, incumbent)
	}
}

// copies makes m's state directory a copy of other's, as a cloned disk has it.
func (m *member) copies(other *member) {
	m.Helper()
	if err := os.CopyFS(m.state, os.DirFS(other.state)); err != nil {
		m.Fatal(err)
	}
	if err := os.Chmod(m.state, 0o700); err != nil {
		m.Fatal(err)
	}
}

// TestCopyOfALiveAgentIsRefused: both would take the registration from each
// other for ever.
func TestCopyOfALiveAgentIsRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	first := f.member("a1").start()
	before := first.registered()
	client := f.etcd.Client(t)
	_, _, created := f.found(client, newKeys("").registry("a1"))
	second := f.member("a1")
	second.copies(first)
	second.start()
	second.fails(fmt.Sprintf("copy of this one's state directory on host %s with pid %d since %s", before.Host, before.PID, before.Started.Format(time.RFC3339)))
	if pids := f.writers(client, created); len(pids) != 0 && !slices.Equal(pids, []int{before.PID}) {
		t.Errorf("%v wrote the registration, want %d alone", pids, before.PID)
	}
	first.registered()
}

// TestCrashedAgentComesBackFromACopyOfItsDiskAfterABeat: a container that is
// restarted on another machine would otherwise wait for the end of the lease.
func TestCrashedAgentComesBackFromACopyOfItsDiskAfterABeat(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	first := f.member("a1")
	first.env.TTL = 10 * time.Second // a beat of 2 s
	first.start()
	first.registered()
	client := f.etcd.Client(t)
	first.kill()
	second := f.member("a1")
	second.env.TTL = longTTL
	second.copies(first)
	_, held, created := f.found(client, newKeys("").registry("a1"))
	second.start()
	second.takesOver()
	if _, now, rev := f.found(client, newKeys("").registry("a1")); rev != created || now == held {
		t.Errorf("the registration of revision %d on lease %x became one of %d on %x: want it taken over before it ended", created, held, rev, now)
	}
	if strings.Contains(second.said(), "starting without it") {
		t.Error("it started before it knew whether the id was its own")
	}
}

// TestCrashedAgentComesBackAtOnceInItsOwnDirectory: neither the end of the
// lease nor a beat comes in time with this TTL.
func TestCrashedAgentComesBackAtOnceInItsOwnDirectory(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1")
	m.env.TTL = longTTL
	m.start()
	m.registered()
	for range 2 {
		m.kill()
		m.start()
		m.takesOver()
	}
	order := m.order(build{Version: "1.1.0"})
	m.ends(order, upgrade.Committed)
	m.runs("1.1.0")
}
