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

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
)

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
	if strings.Contains(second.said(), "starting without etcd") {
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

// TestLiveAgentThatTellsAnAbsurdBeatKeepsItsID: a registration is whatever its
// writer says, and the wait for its beat must not overflow into none at all.
func TestLiveAgentThatTellsAnAbsurdBeatKeepsItsID(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	client := f.etcd.Client(t)
	old, next := f.registryOf(t, client, t.TempDir()), f.registryOf(t, client, "")
	next.instance = old.instance
	granted, err := client.Grant(f.ctx(), 4)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.KeepAlive(t.Context(), granted.ID); err != nil {
		t.Fatal(err)
	}
	reg := Registration{Schema: schema, ID: "a1", Instance: old.instance.ID, HeartbeatEvery: 1e300}
	if err := old.register(f.ctx(), int64(granted.ID), reg); err != nil {
		t.Fatal(err)
	}
	other, err := client.Grant(f.ctx(), 60)
	if err != nil {
		t.Fatal(err)
	}
	if err := next.register(f.ctx(), int64(other.ID), reg); !errors.Is(err, ErrDuplicate) {
		t.Errorf("it was taken: %v", err)
	}
}

// TestOfManyThatTakeAnIDAtOnceOneGetsIt: none has anything to compare itself
// with when it looks.
func TestOfManyThatTakeAnIDAtOnceOneGetsIt(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	const many = 8
	results := make(chan error, many)
	begin := make(chan struct{})
	for range many {
		client := f.etcd.Client(t)
		r := f.registryOf(t, client, t.TempDir())
		granted, err := client.Grant(f.ctx(), 60)
		if err != nil {
			t.Fatal(err)
		}
		reg := Registration{Schema: schema, ID: "a1", Instance: r.instance.ID}
		go func() {
			<-begin
			err := r.register(f.ctx(), int64(granted.ID), reg)
			for errors.Is(err, errFenced) { // as a session does
				err = r.register(f.ctx(), int64(granted.ID), reg)
			}
			results <- err
		}()
	}
	close(begin)
	taken := 0
	for range many {
		switch err := waittest.Next(t, "an end", results); {
		case err == nil:
			taken++
		case !errors.Is(err, ErrDuplicate):
			t.Error(err)
		}
	}
	if taken != 1 {
		t.Errorf("%d got the id, want one", taken)
	}
}
