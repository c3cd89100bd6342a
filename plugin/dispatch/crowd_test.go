package dispatch_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

// appear has an agent take tasks, as far as the dispatcher can see.
func (r *rig) appear(agents ...string) {
	r.Helper()
	var ops []clientv3.Op
	flush := func() {
		if _, err := r.client.Txn(r.Context()).Then(ops...).Commit(); err != nil {
			r.Fatal(err)
		}
		ops = nil
	}
	for _, agent := range agents {
		value := fmt.Sprintf(`{"schema":1,"agent":%q,"instance":"i","plugins":[{"name":"p","version":"1.0.0","capabilities":["do"]}],"concurrency":1,"room":1}`, agent)
		if ops = append(ops, clientv3.OpPut(dispatch.Prefix("")+"worker/"+agent, value)); len(ops) == 100 {
			flush()
		}
	}
	flush()
}

// More agents than fit into a transaction, and into a step of spreading.
func TestTaskForAllReachesEveryAgentOfALargeFleet(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	const n = 601
	var agents []string
	for i := range n {
		agents = append(agents, fmt.Sprintf("agent-%04d", i))
	}
	r.appear(agents...)
	s, err := r.queue.Submit(t.Context(), dispatch.Task{Capability: "do", Policy: dispatch.All})
	if err != nil || s.Runs != n {
		t.Fatalf("got %+v, %v", s, err)
	}
	waittest.Until(t, "every agent has its run", func() bool {
		got, err := r.client.Get(t.Context(), dispatch.Prefix("")+"inbox/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && got.Count == n
	})
	runs, err := r.queue.List(t.Context(), dispatch.Filter{Parent: s.ID, Limit: -1})
	if err != nil || len(runs) != n {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	for i, run := range runs {
		if run.Agent != agents[i] || run.Pinned != agents[i] {
			t.Fatalf("run %d is at %s, for %s", i, run.Agent, run.Pinned)
		}
	}
	if err := r.queue.Cancel(t.Context(), s.ID, ""); err != nil {
		t.Fatal(err)
	}
	if info := r.becomes(s.ID, dispatch.Cancelled); info.Runs.Cancelled != n {
		t.Errorf("got %+v", info.Runs)
	}
	r.judge(nil)
}

func TestTaskThatKillsItsAgentsEndsOnTheDeadLetterList(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d", func(c *dispatch.DispatcherConfig) { c.Grace = time.Millisecond })
	id := r.submit(dispatch.Task{})
	for i := range dispatch.MaxLosses + 1 {
		r.appear("a")
		waittest.Until(t, "it is assigned", func() bool {
			info := r.get(id)
			return info.State == dispatch.Assigned && info.Attempt == i+1
		})
		prefix := dispatch.Prefix("")
		if _, err := r.client.Txn(t.Context()).Then(
			clientv3.OpPut(prefix+"claim/a/"+id, `{"schema":1,"instance":"i","at":"2026-01-02T03:04:05Z"}`),
			clientv3.OpDelete(prefix+"worker/a")).Commit(); err != nil {
			t.Fatal(err)
		}
		waittest.Until(t, "it is taken back", func() bool { return r.get(id).Losses == i+1 })
	}
	info := r.becomes(id, dispatch.Dead)
	if !strings.Contains(info.Error, "lost 11 times") || len(info.Attempts) != 10 || info.Attempts[9].Number != 11 {
		t.Errorf("got %+v", info)
	}
	r.clean("a")
}
