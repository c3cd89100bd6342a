package dispatch_test

import (
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

func TestAnotherDispatcherReplacesOneThatDied(t *testing.T) {
	r := newRig(t)
	r.agent("a", newHost(map[string]work{"do": nothing}))
	proxy := r.server.Proxy(t)
	lost := proxy.Client(t)
	r.dispatcher("d1", func(c *dispatch.DispatcherConfig) { c.Client = lost })
	waittest.Until(t, "the first is elected", func() bool {
		id, err := r.queue.Leader(t.Context())
		return err == nil && id == "d1"
	})
	r.becomes(r.submit(dispatch.Task{}), dispatch.Succeeded)
	r.dispatcher("d2")
	proxy.Freeze()
	ids := r.submitAll(5, dispatch.Task{})
	r.where(ids)
	if id, err := r.queue.Leader(t.Context()); err != nil || id != "d2" {
		t.Errorf("leader %s, %v", id, err)
	}
	proxy.Heal()
	ids = r.submitAll(5, dispatch.Task{})
	r.where(ids)
	for _, id := range ids {
		if info := r.get(id); info.Attempt != 1 {
			t.Errorf("two dispatchers assign: %+v", info)
		}
	}
}

func TestDispatcherThatWasReplacedWritesNothing(t *testing.T) {
	r := newRig(t)
	r.agent("a", newHost(map[string]work{"do": nothing}))
	r.dispatcher("d", func(c *dispatch.DispatcherConfig) { c.TTL = 5 * time.Second })
	// It knows all that it needs to assign this one.
	id := r.submit(dispatch.Task{NotBefore: time.Now().Add(2 * time.Second)})
	r.becomes(r.submit(dispatch.Task{}), dispatch.Succeeded)
	// Somebody else is elected while it believes that it still is.
	got, err := r.client.Get(t.Context(), "/agents/tasks/leader")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Delete(t.Context(), "/agents/tasks/leader"); err != nil {
		t.Fatal(err)
	}
	put, err := r.client.Txn(t.Context()).If(clientv3.Compare(clientv3.CreateRevision("/agents/tasks/leader"), "=", 0)).
		Then(clientv3.OpPut("/agents/tasks/leader", string(got.Kvs[0].Value))).Commit()
	if err != nil || !put.Succeeded {
		t.Fatalf("the test came too late: %v", err)
	}
	waittest.Until(t, "it has noticed", func() bool { return r.log.Has("the term of the elected has ended") })
	if info := r.get(id); info.Attempt != 0 {
		t.Errorf("it assigns all the same: %+v", info)
	}
}

// The dispatcher hears of the task, and etcd does not answer when it asks what
// the task is.
func TestTaskThatCouldNotBeReadOnceIsNotForgotten(t *testing.T) {
	r := newRig(t)
	proxy := r.server.Proxy(t)
	client := proxy.Client(t)
	r.dispatcher("d", func(c *dispatch.DispatcherConfig) { c.Client, c.TTL = client, 20*time.Second })
	r.agent("a", newHost(map[string]work{"do": nothing}))
	r.becomes(r.submit(dispatch.Task{}), dispatch.Succeeded)
	proxy.FreezeWay(etcdtest.ToServer)
	id := r.submit(dispatch.Task{})
	waittest.Until(t, "it cannot be read", func() bool { return r.log.Has("tasks could not be assigned") })
	proxy.Heal()
	r.becomes(id, dispatch.Succeeded)
}
