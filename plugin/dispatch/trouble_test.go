package dispatch_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

// failures are the moments at which a dispatcher could not assign.
type failures struct {
	slog.Handler
	at chan time.Time
}

func (f failures) Enabled(context.Context, slog.Level) bool { return true }

func (f failures) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "tasks could not be assigned" {
		f.at <- r.Time
	}
	return f.Handler.Handle(ctx, r)
}

// Where every write fails, each look at the queue finds the same to do.
func TestDispatcherDoesNotSpinWhereEtcdIsFull(t *testing.T) {
	r := newRigWith(t, etcdtest.Options{QuotaBytes: 4 << 20})
	r.agent("a", newHost(map[string]work{"do": nothing}))
	failed := failures{r.logger.Handler(), make(chan time.Time, 1000)}
	r.dispatcher("d", func(c *dispatch.DispatcherConfig) { c.TTL, c.Logger = 20*time.Second, slog.New(failed) })
	r.becomes(r.submit(dispatch.Task{}), dispatch.Succeeded)
	due := time.Now().Add(3 * time.Second)
	id := r.submit(dispatch.Task{NotBefore: due})
	waittest.Nil(t, "etcd is full", func() error {
		_, err := r.client.Put(t.Context(), "/filling", strings.Repeat("x", 1<<20))
		if errors.Is(err, rpctypes.ErrNoSpace) {
			return nil
		}
		return errors.New("not yet")
	})
	if time.Now().After(due) {
		t.Fatal("the test came too late")
	}
	first := waittest.Next(t, "it cannot be assigned", failed.at)
	last := first
	for range 4 {
		last = waittest.Next(t, "it is tried again", failed.at)
	}
	if took := last.Sub(first); took < time.Second {
		t.Errorf("tried 5 times within %s, want a pause that doubles", took)
	}
	if n := r.log.Count("level=WARN msg=\"tasks could not be assigned\""); n != 1 {
		t.Errorf("warned %d times of the same", n)
	}
	got, err := r.client.Get(t.Context(), "/filling")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Compact(t.Context(), got.Header.Revision); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Defragment(t.Context(), r.client.Endpoints()[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.AlarmDisarm(t.Context(), &clientv3.AlarmMember{}); err != nil {
		t.Fatal(err)
	}
	r.becomes(id, dispatch.Succeeded)
}

func TestPayloadThatCannotBeReadHoldsUpNoOtherTask(t *testing.T) {
	r := newRig(t)
	bad := r.submit(dispatch.Task{Payload: []byte(strings.Repeat("x", 2000)), Priority: 1})
	if _, err := r.client.Put(t.Context(), dispatch.Prefix("")+"payload/"+bad, "{"); err != nil {
		t.Fatal(err)
	}
	good := r.submit(dispatch.Task{})
	r.agent("a", newHost(map[string]work{"do": nothing}))
	r.dispatcher("d")
	r.becomes(good, dispatch.Succeeded)
	if info := r.ends(bad, dispatch.Dead); !strings.Contains(info.Error, "payload") {
		t.Errorf("got %+v", info)
	}
}

// The dispatcher wants to take the task back, and cannot know whether it has.
func TestTaskWhoseCancellationWasNotAnsweredIsCancelledAllTheSame(t *testing.T) {
	r := newRig(t)
	proxy := r.server.Proxy(t)
	client := proxy.Client(t)
	r.dispatcher("d", func(c *dispatch.DispatcherConfig) { c.Client, c.TTL = client, 30*time.Second })
	r.agent("a", newHost(map[string]work{"do": endless}), func(c *dispatch.WorkerConfig) { c.Concurrency, c.Backlog = 1, 1 })
	r.becomes(r.submit(dispatch.Task{}), dispatch.Running)
	id := r.submit(dispatch.Task{})
	r.becomes(id, dispatch.Assigned)
	proxy.FreezeWay(etcdtest.ToServer)
	if err := r.queue.Cancel(t.Context(), id, "op"); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "it had no answer", func() bool { return r.log.Has("tasks could not be assigned") })
	proxy.Cut() // and what was on its way is lost
	proxy.Heal()
	r.becomes(id, dispatch.Cancelled)
}
