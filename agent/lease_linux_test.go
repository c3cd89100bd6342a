package agent

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
)

// vigil watches the registration of one agent.
type vigil struct {
	*member
	client *clientv3.Client
	watch  clientv3.WatchChan
	lease  clientv3.LeaseID
}

// keepVigil begins with the registration as it stands.
func keepVigil(m *member, client *clientv3.Client) *vigil {
	m.Helper()
	return &vigil{
		member: m, client: client, lease: lease(m, m.fleet, client, m.id),
		watch: client.Watch(m.longCtx(), newKeys("").registry(m.id)),
	}
}

// longCtx ends with the test.
func (m *member) longCtx() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	m.Cleanup(cancel)
	return ctx
}

// end reads what was seen until now: the registration was there all the time,
// under one lease.
func (v *vigil) end() {
	v.Helper()
	now, err := v.client.Get(v.ctx(), newKeys("").registry(v.id))
	if err != nil || len(now.Kvs) == 0 {
		v.Fatal("the registration is gone", err)
	}
	writes := 0
	for res := range v.watch {
		for _, e := range res.Events {
			switch {
			case e.Type == clientv3.EventTypeDelete:
				v.Error("the registration disappeared")
			case clientv3.LeaseID(e.Kv.Lease) != v.lease:
				v.Errorf("the lease was %x and became %x: it was not handed over", v.lease, e.Kv.Lease)
			}
			writes++
			if e.Kv.ModRevision >= now.Kvs[0].ModRevision {
				v.Logf("%s: %d writes of the registration seen", v.id, writes)
				return
			}
		}
	}
	v.Error("the watch ended early")
}

// runs expects version in the registry, with the pid of a process that
// executes that version's slot, and returns the pid.
func (m *member) runs(version string) int {
	m.Helper()
	var e Entry
	waittest.Nil(m, version+" is registered", func() error {
		if e = m.registered(); e.Version != version || e.Status.Upgrade.Running.Version != version {
			return fmt.Errorf("%s is, with the status of %s", e.Version, e.Status.Upgrade.Running.Version)
		}
		return nil
	})
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", e.PID))
	if err != nil || !strings.Contains(exe, version) {
		m.Errorf("the registry names pid %d, which executes %q (%v), want %s", e.PID, exe, err, version)
	}
	return e.PID
}

// order asks for a new release of b.
func (m *member) order(b build) Order {
	m.Helper()
	order, err := m.dir.Order(m.ctx(), m.id, upgrade.Request{Pin: m.publish(b), By: "test"})
	if err != nil {
		m.Fatal(err)
	}
	return order
}

// ends waits for the end of an order.
func (m *member) ends(order Order, want upgrade.State) {
	m.Helper()
	end, err := m.dir.Follow(m.ctx(), order, m.id, func(upgrade.Status) {})
	if err != nil || end.State != want {
		m.Fatalf("the order for %s ended %s (%s), %v; want %s", order.Pin.Version, end.State, end.Reason, err, want)
	}
}

func (m *member) upgrades(b build) {
	m.Helper()
	m.ends(m.order(b), upgrade.Committed)
}

// onProbation waits until version is on probation and returns its process.
func (m *member) onProbation(version string) (pid int) {
	m.Helper()
	waittest.Nil(m, version+" is on probation", func() error {
		entries, err := listed(m.ctx(), m.dir)
		if err != nil || len(entries) == 0 || entries[0].Status == nil || entries[0].Status.Upgrade.State != upgrade.Probation {
			return fmt.Errorf("registry: %+v, %w", entries, err)
		}
		pid, err = m.executes(version)
		return err
	})
	return pid
}

// executes finds the process of version's slot.
func (m *member) executes(version string) (pid int, err error) {
	links, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, l := range links {
		exe, err := os.Readlink("/proc/" + l.Name() + "/exe")
		if err == nil && strings.HasPrefix(exe, m.state+"/slots/"+version) {
			_, err = fmt.Sscan(l.Name(), &pid)
			return pid, err
		}
	}
	return 0, fmt.Errorf("no process executes %s", version)
}

func TestRegistrationOutlivesSwapsAndRollbacks(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1").start()
	m.registered()
	v := keepVigil(m, f.etcd.Client(t))
	pids := map[int]bool{m.runs("1.0.0"): true}
	for i := range 4 {
		good := fmt.Sprintf("1.%d.0", i+1)
		before := len(pids)
		m.upgrades(build{Version: good})
		now := m.runs(good)
		if pids[now] = true; len(pids) == before {
			t.Errorf("%s has the pid of a release before", good)
		}
		m.ends(m.order(build{Version: fmt.Sprintf("1.%d.1", i+1), Sick: true}), upgrade.RolledBack)
		if pid := m.runs(good); pid != now {
			t.Errorf("after the rollback pid %d is registered, want %d", pid, now)
		}
	}
	v.end()
}

func TestRegistrationOutlivesTheDeathOfOneOfTheTwo(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1")
	m.env.Probation = 3 * time.Second
	m.start()
	first := m.runs("1.0.0")
	v := keepVigil(m, f.etcd.Client(t))

	order := m.order(build{Version: "1.1.0"})
	if err := syscall.Kill(m.onProbation("1.1.0"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	m.ends(order, upgrade.RolledBack)
	if pid := m.runs("1.0.0"); pid != first {
		t.Errorf("after the successor's death pid %d is registered, want %d", pid, first)
	}

	order = m.order(build{Version: "1.2.0"})
	successor := m.onProbation("1.2.0")
	m.kill()
	m.ends(order, upgrade.Committed)
	if pid := m.runs("1.2.0"); pid != successor {
		t.Errorf("after the incumbent's death pid %d is registered, want %d", pid, successor)
	}
	m.upgrades(build{Version: "1.3.0"})
	m.runs("1.3.0")
	v.end()
}
