package faults

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/agent"
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
	return s, p, newBench(t, s.ClientConfig(), place{etcd: agent.EtcdConfig{Endpoints: []string{p.URL()}}, ttl: ttl})
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
	f.mendsItself(verdict{within: 5 * time.Second})
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
	f.mendsItself(verdict{within: 5 * time.Second, sameLease: true})
}

// TestAgentThatSleptPastItsLeaseRegistersAnewAndReadsWhatItMissed: a host that
// was suspended, or a virtual machine that was moved.
func TestAgentThatSleptPastItsLeaseRegistersAnewAndReadsWhatItMissed(t *testing.T) {
	t.Parallel()
	b := newBench(t, etcdtest.Start(t).ClientConfig(), place{ttl: short})
	f := b.breaks("process asleep past its lease", func() {})
	f.sleeps(true)
	b.signal(syscall.SIGSTOP)
	waittest.Until(t, "the registration ends with its lease", func() bool { return b.lease() == 0 })
	f.mends(verdict{within: 5 * time.Second}, func() {
		b.signal(syscall.SIGCONT)
		b.serves()
		f.sleeps(false)
	})
}

func TestAgentCutOffPastItsLeaseSaysSoAndComesBack(t *testing.T) {
	t.Parallel()
	_, p, b := through(t, short)
	f := b.breaks("agent cut off for longer than its lease", p.Cut)
	waittest.Until(t, "the registration ends with its lease", func() bool { return b.lease() == 0 })
	f.says("registration", "etcd has not answered")
	f.mends(verdict{within: 10 * time.Second}, p.Heal)
}

// TestAgentThatIsNotHeardSaysSo: what it sends is dropped, and what etcd sends
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
			f.mends(verdict{within: 10 * time.Second}, p.Heal)
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
	f.mends(verdict{within: 10 * time.Second, sameLease: true}, func() {
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
	lasts(t, 2*short)
	f.mends(verdict{within: 10 * time.Second, sameLease: true}, func() {
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
	f.mends(verdict{within: 5 * time.Second, sameLease: true}, p.Heal)
}

// TestRestoredSnapshotTakesTheAgentBackInTime: etcd is right, even where what
// it says is older than what the agent has seen.
func TestRestoredSnapshotTakesTheAgentBackInTime(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	b := newBench(t, s.ClientConfig(), place{})
	restore := s.Backup()
	b.right()
	f := b.breaks("restored older snapshot", func() {})
	f.writes()
	f.mends(verdict{within: 15 * time.Second}, func() {
		f.stop()
		b.writer.forget()
		restore()
	})
}

// TestWipedEtcdIsFilledAgain: nothing is there, and revisions begin again.
func TestWipedEtcdGetsTheRegistrationAgain(t *testing.T) {
	t.Parallel()
	s := etcdtest.Start(t)
	b := newBench(t, s.ClientConfig(), place{})
	f := b.breaks("etcd's data wiped and restarted empty", func() {})
	f.mends(verdict{within: 15 * time.Second}, func() {
		f.stop()
		b.writer.forget()
		s.Wipe()
	})
}
