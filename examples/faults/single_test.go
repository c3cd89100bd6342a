package faults

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// short is a lease that the fault outlasts.
const short = 3 * time.Second

// through is an etcd, and an agent that reaches it through a proxy.
func through(t *testing.T, ttl time.Duration) (*etcdtest.Server, *etcdtest.Proxy, *bench) {
	t.Helper()
	s := etcdtest.Start(t)
	p := s.Proxy(t)
	return s, p, newBench(t, s.ClientConfig(), place{etcd: way{Endpoints: []string{p.URL()}}, ttl: ttl})
}

// TestLeaseRevokedByHandIsNoticedAndReplaced: while nothing else happens that
// would have the agent look.
func TestLeaseRevokedByHandIsNoticedAndReplaced(t *testing.T) {
	t.Parallel()
	b := newBench(t, etcdtest.Start(t).ClientConfig(), place{})
	f := b.breaks("lease revoked by hand", func() {})
	f.quiet()
	if _, err := b.client.Revoke(b.ctx(), b.lease()); err != nil {
		t.Fatal(err)
	}
	f.mendsItself(verdict{})
}

// TestKeyDeletedByHandIsNoticedAndWrittenAgain: likewise.
func TestKeyDeletedByHandIsNoticedAndWrittenAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, etcdtest.Start(t).ClientConfig(), place{})
	f := b.breaks("key deleted by hand", func() {})
	f.quiet()
	if _, err := b.client.Delete(b.ctx(), registryKey); err != nil {
		t.Fatal(err)
	}
	f.mendsItself(verdict{sameLease: true})
}

func TestAgentCutOffPastItsLeaseSaysSoAndComesBack(t *testing.T) {
	t.Parallel()
	_, p, b := through(t, short)
	f := b.breaks("agent cut off for longer than its lease", p.Cut)
	waittest.Until(t, "the registration ends with its lease", func() bool { return b.lease() == 0 })
	f.says("registration", "etcd has not answered")
	f.mends(verdict{}, p.Heal)
}

// TestOneWayPartitionOfAnAgentIsNoticed: what it sends is dropped, and what etcd sends
// arrives; then the other way round.
func TestOneWayPartitionOfAnAgentIsNoticed(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]etcdtest.Way{
		"one-way partition, agent is not heard":  etcdtest.ToServer,
		"one-way partition, agent hears nothing": etcdtest.ToClient,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, p, b := through(t, short)
			f := b.breaks(name, func() { p.FreezeWay(way) })
			f.says("registration", "etcd has not answered")
			f.mends(verdict{}, p.Heal)
		})
	}
}

// TestCompactionBehindAStoppedWatcherLosesNothing: the changes that it missed
// are gone from etcd's history when it comes back.
func TestCompactionBehindAStoppedWatcherLosesNothing(t *testing.T) {
	t.Parallel()
	s, p, b := through(t, 0)
	f := b.breaks("compaction behind a stopped watcher", p.Cut)
	f.says(health.HeartbeatLatency, "+Inf")
	f.mends(verdict{sameLease: true}, func() {
		f.stop() // so that the newest revision is compacted, too
		compact(t, s.Client(t))
		p.Heal()
	})
}

func compact(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	r, err := c.Get(ctx, "/")
	if err == nil {
		_, err = c.Compact(ctx, r.Header.Revision)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestFullEtcdIsToldAndDoesNotEndTheAgent: every write is refused, renewals are
// not.
func TestFullEtcdIsToldAndDoesNotEndTheAgent(t *testing.T) {
	t.Parallel()
	s := etcdtest.StartWith(t, etcdtest.Options{QuotaBytes: 4 << 20})
	b := newBench(t, s.ClientConfig(), place{ttl: short})
	f := b.breaks("NOSPACE alarm", func() {
		waittest.Until(t, "etcd is full", func() bool {
			_, err := b.client.Put(b.ctx(), "/fill", strings.Repeat("x", 1<<20))
			return errors.Is(err, rpctypes.ErrNoSpace)
		})
	})
	f.logs("space")
	lasts(t, soaked(2*short))
	f.mends(verdict{sameLease: true}, func() {
		if _, err := b.client.Delete(b.ctx(), "/fill"); err != nil {
			t.Fatal(err)
		}
		compact(t, b.client)
		if _, err := b.client.Defragment(b.ctx(), s.URL()); err != nil {
			t.Fatal(err)
		}
		if _, err := b.client.AlarmDisarm(b.ctx(), &clientv3.AlarmMember{}); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSlowEtcdCostsNoLeaseAndNoChange: each answer comes two seconds late.
func TestSlowEtcdCostsNoLeaseAndNoChange(t *testing.T) {
	t.Parallel()
	_, p, b := through(t, 0)
	f := b.breaks("etcd answering slowly (2 s)", func() { p.Delay(etcdtest.ToClient, 2*time.Second) })
	f.says(health.HeartbeatLatency, "2.")
	f.arrives()
	f.mends(verdict{sameLease: true}, p.Heal)
}

// TestRestoredSnapshotTakesTheAgentBackInTime: etcd is right, even where what
// it says is older than what the agent has seen. One snapshot has the agent's
// registration, and one was taken before there was an agent.
func TestRestoredSnapshotTakesTheAgentBackInTime(t *testing.T) {
	t.Parallel()
	t.Run("with the agent", func(t *testing.T) {
		t.Parallel()
		s := etcdtest.Start(t)
		b := newBench(t, s.ClientConfig(), place{})
		restore := s.Backup()
		b.right()
		restored(b, "restored older snapshot", restore)
	})
	t.Run("from before the agent", func(t *testing.T) {
		t.Parallel()
		s := etcdtest.Start(t)
		newWriter(t, s.Client(t)).writeAll()
		restore := s.Backup()
		restored(newBench(t, s.ClientConfig(), place{}), "restored snapshot from before the agent", restore)
	})
}

func restored(b *bench, name string, restore func()) {
	b.Helper()
	f := b.breaks(name, func() {})
	f.mends(verdict{}, func() {
		f.stop()
		b.writer.forget()
		restore()
	})
}

// TestWipedEtcdGetsTheRegistrationAgainAndTakesNoConfiguration: nothing is
// there, and revisions begin again. The agent keeps its configuration until
// somebody publishes one.
func TestWipedEtcdGetsTheRegistrationAgainAndTakesNoConfiguration(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	b := newBench(t, s.ClientConfig(), place{})
	f := b.breaks("etcd's data wiped and restarted empty", func() {})
	f.stop()
	f.right()
	before, err := f.ask()
	if err != nil {
		t.Fatal(err)
	}
	b.writer.forget()
	s.Wipe()
	waittest.Nil(t, "the registration is there again", func() error { return b.registered(b.ctx()) })
	f.says("configuration", "holds none of this agent's documents")
	if now, err := f.ask(); err != nil || now.Revision != before.Revision || !maps.Equal(now.Values, before.Values) {
		t.Errorf("it ran %v and runs %v (%v)", before.Values, now.Values, err)
	}
	f.stop = func() int { return 0 }
	f.mends(verdict{}, b.writer.writeAll)
}
