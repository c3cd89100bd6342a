package dispatch_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/reexec"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

// What a process of the fleet is told by its environment.
const (
	envEtcd     = "DISPATCH_TEST_ETCD"
	envAgent    = "DISPATCH_TEST_AGENT" // "" = a dispatcher
	envInstance = "DISPATCH_TEST_INSTANCE"
	envFails    = "DISPATCH_TEST_FAILS" // tasks fail now and then
)

// TestFleetProcess is no test but an agent, or a dispatcher, that others start
// and kill.
func TestFleetProcess(t *testing.T) {
	reexec.Begin(t)
	client, err := etcdkv.Dial(etcdkv.ClientConfig{Endpoints: []string{os.Getenv(envEtcd)}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	id := os.Getenv(envAgent)
	if id == "" {
		d, err := dispatch.NewDispatcher(dispatch.DispatcherConfig{
			Client: client, ID: os.Getenv(envInstance), TTL: time.Second, Grace: 100 * time.Millisecond, Logger: logger,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Fatal(d.Run(t.Context()))
	}
	session, err := etcdkv.NewSession(etcdkv.SessionConfig{Client: client, TTL: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	failed := map[string]bool{}
	var mu sync.Mutex
	w, err := dispatch.NewWorker(dispatch.WorkerConfig{
		Client: client, AgentID: id, Instance: os.Getenv(envInstance), Logger: logger,
		Lease: func() clientv3.LeaseID { return clientv3.LeaseID(session.Lease()) },
		Plugins: newHost(map[string]work{"count": count(9, func(_ context.Context, task plugin.Task, i int) error {
			mu.Lock()
			defer mu.Unlock()
			if os.Getenv(envFails) != "" && i == 5 && !failed[task.ID] {
				failed[task.ID] = true
				return fmt.Errorf("it fails once here")
			}
			return nil
		})}),
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = session.Run(t.Context()) }()
	t.Fatal(w.Run(t.Context()))
}

// fleet starts and kills processes.
type fleet struct {
	*rig
	number int
}

// member is a process.
type member struct {
	cmd    *exec.Cmd
	log    *waittest.Log
	exited chan error
}

// start starts an agent called id, or a dispatcher, with failpoints armed.
func (f *fleet) start(id, failpoints string) *member {
	f.Helper()
	f.number++
	m := &member{log: &waittest.Log{}, exited: make(chan error, 1)}
	m.cmd = reexec.Test(f.T, "TestFleetProcess", failpoints, envEtcd+"="+f.server.URL(), envAgent+"="+id,
		envInstance+"="+fmt.Sprint("process-", f.number), envFails+"=1")
	m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
	if err := m.cmd.Start(); err != nil {
		f.Fatal(err)
	}
	go func() { m.exited <- m.cmd.Wait() }()
	f.Cleanup(func() {
		m.kill()
		if f.Failed() {
			f.Logf("process %s %s:\n%s", id, failpoints, m.log)
		}
	})
	return m
}

// kill kills the process, if it lives, and waits for its end.
func (m *member) kill() {
	_ = m.cmd.Process.Kill()
	m.exited <- <-m.exited
}

func (f *fleet) submitCounts(n int) map[string]func(dispatch.State) bool {
	f.Helper()
	ends := map[string]func(dispatch.State) bool{}
	for range n {
		id := f.submit(dispatch.Task{Capability: "count", Retry: dispatch.Retry{Max: 50, MinBackoff: time.Millisecond, MaxBackoff: 20 * time.Millisecond}})
		ends[id] = succeeded
	}
	return ends
}

// settle waits until all has ended, and judges.
func (f *fleet) settle(ends map[string]func(dispatch.State) bool) {
	f.Helper()
	f.finished()
	h := f.judge(ends)
	f.Logf("%d tasks, %d acknowledged, %d withdrawn", len(h.Ends), h.Acknowledged, h.Withdrawn)
	for id, state := range h.Ends {
		if state == dispatch.Succeeded && f.get(id).Runs == nil {
			f.counted(id, 9)
		}
	}
}

// TestDeathAtAnyStepLosesAndDoublesNothing kills a process at each step that
// leaves something behind.
func TestDeathAtAnyStepLosesAndDoublesNothing(t *testing.T) {
	for step, agent := range map[string]string{
		"dispatch-claimed": "a", "dispatch-result": "a", "dispatch-run": "a", "dispatch-acknowledged": "a",
		"dispatch-assigned": "", "dispatch-fold": "", "dispatch-folded": "", "dispatch-spread": "",
	} {
		t.Run(step, func(t *testing.T) {
			f := &fleet{rig: newRig(t)}
			ends := f.submitCounts(20)
			dies := f.start(agent, step+"=kill")
			if agent == "" {
				f.start("a", "")
			} else {
				f.start("", "")
			}
			waittest.Until(t, "a takes tasks", func() bool {
				workers, err := f.queue.Workers(t.Context())
				return err == nil && len(workers) == 1
			})
			ends[f.submit(dispatch.Task{Capability: "count", Policy: dispatch.All, Retry: dispatch.Retry{MinBackoff: time.Millisecond}})] = succeeded
			if err := waittest.Next(t, "it dies at "+step, dies.exited); !reexec.Killed(err) {
				t.Fatalf("it ended otherwise: %v", err)
			}
			dies.exited <- nil
			f.start(agent, "")
			f.settle(ends)
		})
	}
}

// TestBooksBalanceUnderRandomKills has processes killed, stopped and woken at
// random while they work. See TestBooksBalanceWhateverHappens for how long.
func TestBooksBalanceUnderRandomKills(t *testing.T) {
	f := &fleet{rig: newRig(t)}
	c := newChaos(f.rig)
	ends := f.submitCounts(150)
	ids := []string{"a", "b", "", ""}
	members := make([]*member, len(ids))
	for i, id := range ids {
		members[i] = f.start(id, "")
	}
	kills := 0 // fewer than two would prove little
	for until := time.Now().Add(lasts(5 * time.Second)); kills < 2 || time.Now().Before(until); {
		i := c.chance(len(members))
		before := f.acknowledged()
		waittest.Within(t, 10*time.Second, "something is done, or nothing is left to do", func() bool {
			n := f.acknowledged()
			return n > before+c.chance(10) || n >= len(ends) || time.Now().After(until)
		})
		if f.acknowledged() >= len(ends) {
			for id := range f.submitCounts(50) {
				ends[id] = succeeded
			}
		}
		if c.chance(3) == 0 {
			// Longer than its lease, and then it goes on as if nothing were.
			_ = members[i].cmd.Process.Signal(syscall.SIGSTOP)
			_ = backoff.Sleep(t.Context(), time.Duration(1000+c.chance(1500))*time.Millisecond)
			_ = members[i].cmd.Process.Signal(syscall.SIGCONT)
			continue
		}
		members[i].kill()
		members[i] = f.start(ids[i], "")
		kills++
	}
	f.settle(ends)
}

// acknowledged counts the tasks that are finished.
func (f *fleet) acknowledged() int {
	got, err := f.client.Get(f.Context(), "/agents/tasks/done/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return 0
	}
	return int(got.Count)
}
