package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/waittest"
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
	put("perennial: {heartbeat: {ttl: 20s, every: 2s}}\n")
	beats(20, 2)
	if ttl, err := client.TimeToLive(f.ctx(), lease(t, f, client, "a1")); err != nil || ttl.GrantedTTL != 20 {
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
	beats(20, 2)

	// A successor carries on with it, on the same lease.
	put("perennial: {heartbeat: {ttl: 20s, every: 2s}}\n")
	v := keepVigil(m, client)
	m.upgrades(build{Version: "1.1.0"})
	if pid := m.runs("1.1.0"); pid == before.PID {
		t.Error("the upgrade left the process")
	}
	beats(20, 2)
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
	m.env.Spread, m.env.StatusEvery = 24*time.Hour, 24*time.Hour
	m.start()
	prompt := f.member("a2")
	prompt.env.StatusEvery = 200 * time.Millisecond
	prompt.start()
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
	// What is told promptly, such as a change of state, takes the
	// acknowledgement along: one that comes alone has to wait.
	var rev int64
	spread := false
	for i := 0; i < 5 && !spread; i++ {
		greeting := fmt.Sprintf("moin %d", i)
		var err error
		if rev, err = config.Put(f.ctx(), client, "", "global", []byte("greeting: "+greeting)); err != nil {
			t.Fatal(err)
		}
		waittest.Nil(f, "the document is applied", func() error {
			found, err := m.greets()
			if err == nil && found != greeting {
				err = fmt.Errorf("it says %q", found)
			}
			return err
		})
		// An agent that does not spread acknowledges, and writes a few times more.
		var told time.Time
		waittest.Until(f, "another agent acknowledges", func() bool {
			s := prompt.registered().Status
			told = s.At
			return s.Config.Running == rev
		})
		waittest.Until(f, "its fifth beat after that", func() bool {
			return prompt.registered().Status.At.After(told.Add(5 * prompt.env.StatusEvery))
		})
		spread = m.registered().Status.Config.Running != rev
	}
	if !spread {
		t.Error("each document was acknowledged at once")
	}
	refuse("sing")
	if e := m.registered(); e.Status.Config.Running != rev {
		t.Errorf("%+v: what is written tells all there is to tell", e.Status.Config)
	}
}
