package dispatch_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

func TestSwapOfTheAgentsProcessLosesAndDoublesNothing(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	runs := make(chan string, 100)
	release := make(chan struct{})
	h := newHost(map[string]work{
		"short": count(6, func(ctx context.Context, task plugin.Task, i int) error {
			if i == 1 {
				runs <- task.ID
			}
			if i == 5 {
				select {
				case <-release:
				case <-ctx.Done():
				}
			}
			return ctx.Err()
		}),
		"endless": func(ctx context.Context, task plugin.Task, deliver func(plugin.Result) error) error {
			runs <- task.ID + " from " + task.Cursor
			if err := deliver(plugin.Result{Cursor: "c" + task.Cursor}); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		},
	})
	a := r.agent("a", h, func(c *dispatch.WorkerConfig) { c.Concurrency, c.Backlog, c.DrainTimeout = 2, 1, time.Minute })
	short := r.submit(dispatch.Task{Capability: "short"})
	endless := r.submit(dispatch.Task{Capability: "endless", Resumable: true})
	for range 2 {
		waittest.Next(t, "both run", runs)
	}
	predecessor := make(chan struct{})
	old, stopOld := a.worker, a.stop
	a.start("2", func(c *dispatch.WorkerConfig) { c.Concurrency, c.Backlog, c.Predecessor = 2, 1, predecessor })
	waittest.Until(t, "the successor has the key", func() bool {
		workers, err := r.queue.Workers(t.Context())
		return err == nil && len(workers) == 1 && workers[0].Instance == "a-2"
	})
	if a.worker.Running() != 0 {
		t.Error("the successor runs what its predecessor does")
	}
	key := func() int64 {
		got, err := r.client.Get(t.Context(), dispatch.Prefix("")+"worker/a")
		if err != nil || len(got.Kvs) != 1 {
			return 0
		}
		return got.Kvs[0].CreateRevision
	}
	created := key()
	drained := make(chan struct{})
	go func() {
		stopOld()
		close(drained)
	}()
	if got := waittest.Next(t, "what is resumable goes on", runs); got != endless+" from c" {
		t.Errorf("it began %s", got)
	}
	if info := r.get(short); info.State != dispatch.Running || info.Attempt != 1 || old.Running() != 1 {
		t.Errorf("the predecessor drains: got %+v", info)
	}
	close(release)
	waittest.Next(t, "the predecessor ends", drained)
	close(predecessor)
	if err := r.queue.Cancel(t.Context(), endless, ""); err != nil {
		t.Fatal(err)
	}
	r.becomes(endless, dispatch.Cancelled)
	if info := r.becomes(short, dispatch.Succeeded); info.Attempt != 1 {
		t.Errorf("got %+v", info)
	}
	r.counted(short, 6)
	if n := h.runs(short); n != 1 {
		t.Errorf("it ran %d times", n)
	}
	info := r.get(endless)
	if info.Failures != 0 || info.Losses != 0 || info.Attempts[0].Ended != "released" {
		t.Errorf("got %+v", info)
	}
	if now := key(); now != created {
		t.Errorf("the predecessor took the successor's key: created at %d, now %d", created, now)
	}
}

func TestWhatADeadPredecessorRanIsTakenOverAtOnceAndOnlyThen(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	first := make(chan string, 10)
	done := make(chan struct{})
	told := make(chan int, 10)
	h := newHost(map[string]work{"do": count(7, func(ctx context.Context, task plugin.Task, i int) error {
		if i == 4 {
			told <- task.Attempt
		}
		if i == 5 {
			select {
			case first <- task.ID:
				<-done // of a process that is stopped
				return errors.New("woken")
			default:
			}
		}
		return nil
	})})
	first = make(chan string)
	proxy := r.server.Proxy(t)
	client := proxy.Client(t)
	a := r.agent("a", h, func(c *dispatch.WorkerConfig) { c.Client, c.DrainTimeout = client, -1 })
	id := r.submit(dispatch.Task{})
	waittest.Next(t, "it runs", first)
	proxy.Freeze()
	predecessor, before := make(chan struct{}), a.worker
	a.start("2", func(c *dispatch.WorkerConfig) { c.Predecessor = predecessor })
	waittest.Until(t, "the successor has the key", func() bool {
		workers, err := r.queue.Workers(t.Context())
		return err == nil && len(workers) == 1 && workers[0].Instance == "a-2"
	})
	r.becomes(r.submit(dispatch.Task{}), dispatch.Succeeded) // it works
	if info := r.get(id); info.State != dispatch.Running || h.runs(id) != 1 {
		t.Errorf("what the predecessor runs was begun again: %+v", info)
	}
	close(predecessor)
	if info := r.becomes(id, dispatch.Succeeded); info.Attempt != 1 {
		t.Errorf("got %+v", info)
	}
	r.counted(id, 7)
	if a, b, c := <-told, <-told, <-told; a != 0 || b != 0 || c != 1 {
		t.Errorf("the plugin was told %d at first, %d with the other task and %d when it went on, want 0, 0 and 1", a, b, c)
	}
	proxy.Heal()
	close(done)
	waittest.Until(t, "the one before has given up", func() bool { return before.Running() == 0 })
	r.counted(id, 7)
	r.judge(nil)
}

// What a process has sent to etcd may arrive after its end, and after its
// successor has looked at what it left.
func TestClaimThatWasUnderWayWhenItsProcessWasReplacedIsRefused(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	proxy := r.server.Proxy(t)
	client := proxy.Client(t)
	quick := make(chan struct{})
	close(quick)
	a := r.agent("a", newHost(map[string]work{"do": endless, "quick": held(quick)}), func(c *dispatch.WorkerConfig) { c.Client, c.Concurrency, c.DrainTimeout = client, 2, -1 })
	r.becomes(r.submit(dispatch.Task{Capability: "quick"}), dispatch.Succeeded) // it has settled down
	proxy.FreezeWay(etcdtest.ToServer)
	ids := r.submitAll(2, dispatch.Task{})
	waittest.Until(t, "it is about to claim both", func() bool { return a.worker.Running() == 2 })
	before := a.worker
	release := make(chan struct{})
	a.host = newHost(map[string]work{"do": held(release)})
	a.start("2", func(c *dispatch.WorkerConfig) { c.Concurrency, c.Backlog = 1, 1 })
	waittest.Until(t, "one of them runs", func() bool {
		return r.get(ids[0]).State == dispatch.Running || r.get(ids[1]).State == dispatch.Running
	})
	proxy.Heal()
	waittest.Until(t, "the one before has given up", func() bool { return before.Running() == 0 })
	close(release)
	for _, id := range ids {
		if info := r.becomes(id, dispatch.Succeeded); info.Attempt != 1 {
			t.Errorf("got %+v", info)
		}
	}
}

// The dispatcher may be away between an acknowledgement and the moment when it
// is taken over.
func TestRunThatWasAcknowledgedIsNotBegunAgainByTheNextProcess(t *testing.T) {
	r := newRig(t)
	stop := r.dispatcher("d")
	release := make(chan struct{})
	a := r.agent("a", newHost(map[string]work{"do": held(release)}))
	id := r.submit(dispatch.Task{})
	r.becomes(id, dispatch.Running)
	stop()
	close(release)
	there := func(key string) func() bool {
		return func() bool {
			got, err := r.client.Get(t.Context(), dispatch.Prefix("")+key)
			return err == nil && len(got.Kvs) == 1
		}
	}
	waittest.Until(t, "it is acknowledged", there("outcome/a/"+id))
	a.stop()
	a.start("2", func(c *dispatch.WorkerConfig) { c.Concurrency = 1 })
	// What comes after it shows that it was passed over.
	if _, err := r.client.Put(t.Context(), dispatch.Prefix("")+"inbox/a/next", `{"schema":1,"attempt":1,"capability":"do"}`); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the next one is done", there("outcome/a/next"))
	r.dispatcher("d2")
	r.becomes(id, dispatch.Succeeded)
	if n := a.host.runs(id); n != 1 {
		t.Errorf("it ran %d times", n)
	}
	r.judge(nil)
}

// etcd cannot change the TTL of a lease, so that an agent exchanges it.
func TestExchangeOfTheAgentsLeaseTakesNoTaskAway(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d", func(c *dispatch.DispatcherConfig) { c.Grace = 30 * time.Second })
	var lease atomic.Int64
	grant := func() clientv3.LeaseID {
		t.Helper()
		got, err := r.client.Grant(t.Context(), 60)
		if err != nil {
			t.Fatal(err)
		}
		return clientv3.LeaseID(lease.Swap(int64(got.ID)))
	}
	grant()
	release := make(chan struct{})
	a := r.agent("a", newHost(map[string]work{"do": held(release)}), func(c *dispatch.WorkerConfig) {
		c.Lease = func() clientv3.LeaseID { return clientv3.LeaseID(lease.Load()) }
	})
	id := r.submit(dispatch.Task{})
	r.becomes(id, dispatch.Running)
	old := grant()
	if _, err := r.client.Revoke(t.Context(), old); err != nil { // at once, and the key is gone
		t.Fatal(err)
	}
	a.worker.Changed()
	waittest.Until(t, "the key is back, on the other lease", func() bool {
		got, err := r.client.Get(t.Context(), dispatch.Prefix("")+"worker/a")
		return err == nil && len(got.Kvs) == 1 && got.Kvs[0].Lease == lease.Load()
	})
	close(release)
	for _, id := range []string{id, r.submit(dispatch.Task{})} {
		if info := r.becomes(id, dispatch.Succeeded); info.Attempt != 1 {
			t.Errorf("got %+v", info)
		}
	}
}

// replaced has a process die while it runs a task that has yielded n results, as
// far as etcd can see, and its successor take over what is left then.
func (r *rig) replaced(h *host, running <-chan string, n int, meanwhile func(id string)) (id string) {
	r.Helper()
	proxy := r.server.Proxy(r.T)
	client := proxy.Client(r.T)
	a := r.agent("a", h, func(c *dispatch.WorkerConfig) { c.Client, c.DrainTimeout = client, -1 })
	id = r.submit(dispatch.Task{})
	waittest.Next(r.T, "it runs", running)
	waittest.Until(r.T, "its results are written", func() bool {
		results, err := r.queue.Results(r.Context(), id, 0, 0)
		return err == nil && len(results) == n
	})
	proxy.Freeze()
	meanwhile(id)
	a.start("2")
	return id
}

func TestRunThatIsTakenOverGoesOnFromItsCursorAndLeavesNoOtherResults(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	running, cursors := make(chan string, 1), make(chan string, 2)
	h := newHost(map[string]work{"do": func(ctx context.Context, task plugin.Task, deliver func(plugin.Result) error) error {
		cursors <- task.Cursor
		if task.Cursor != "" {
			return deliver(plugin.Result{Payload: []byte("4")})
		}
		return count(6, func(ctx context.Context, task plugin.Task, i int) error {
			if i == 6 {
				running <- task.ID
				<-ctx.Done()
			}
			return ctx.Err()
		})(ctx, task, deliver)
	}})
	id := r.replaced(h, running, 5, func(string) {})
	r.becomes(id, dispatch.Succeeded)
	waittest.Next(t, "the first run", cursors)
	if got := waittest.Next(t, "the second run", cursors); got != "3" {
		t.Errorf("it went on from %q, want 3", got)
	}
	r.counted(id, 4)
}

func TestRunThatWasCancelledIsNotBegunAgainByTheNextProcess(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	running := make(chan string, 1)
	h := newHost(map[string]work{"do": func(ctx context.Context, task plugin.Task, _ func(plugin.Result) error) error {
		running <- task.ID
		<-ctx.Done()
		return ctx.Err()
	}})
	id := r.replaced(h, running, 0, func(id string) {
		if err := r.queue.Cancel(t.Context(), id, "op"); err != nil {
			t.Fatal(err)
		}
		waittest.Until(t, "its agent is told", func() bool {
			got, err := r.client.Get(t.Context(), dispatch.Prefix("")+"inbox/a/"+id+"/cancel")
			return err == nil && len(got.Kvs) == 1
		})
	})
	r.becomes(id, dispatch.Cancelled)
	if n := h.runs(id); n != 1 {
		t.Errorf("it ran %d times", n)
	}
}

// A plugin that works on under the successor is called no more from here: to
// wait for it would take the whole drain.
func TestWhatIsInterruptedInASupersededProcessGoesOnInTheNextAtOnce(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	begun, breaks := make(chan struct{}, 100), make(chan struct{})
	a := r.agent("a", newHost(map[string]work{
		"breaks": func(ctx context.Context, _ plugin.Task, _ func(plugin.Result) error) error {
			begun <- struct{}{}
			select {
			case <-breaks:
				return plugin.ErrInterrupted
			case <-ctx.Done():
				return ctx.Err()
			}
		},
		"absent": func(context.Context, plugin.Task, func(plugin.Result) error) error {
			begun <- struct{}{}
			return plugin.ErrNotRunning
		},
	}), func(c *dispatch.WorkerConfig) { c.DrainTimeout = waittest.Patience })
	broken := r.submit(dispatch.Task{Capability: "breaks"})
	waittest.Next(t, "one runs", begun)
	absent := r.submit(dispatch.Task{Capability: "absent"})
	waittest.Next(t, "one waits for its plugin", begun)
	predecessor, stopOld := make(chan struct{}), a.stop
	a.host = newHost(map[string]work{"breaks": nothing, "absent": nothing})
	a.start("2", func(c *dispatch.WorkerConfig) { c.Predecessor = predecessor })
	stopped := make(chan struct{})
	go func() {
		stopOld()
		close(stopped)
	}()
	released := func(id string) {
		t.Helper()
		if info := r.becomes(id, dispatch.Succeeded); info.Attempt != 2 || info.Attempts[0].Ended != "released" || info.Failures+info.Losses != 0 {
			t.Errorf("got %+v", info)
		}
	}
	released(absent)
	if info := r.get(broken); info.State != dispatch.Running || info.Attempt != 1 {
		t.Errorf("what is not interrupted may go on: %+v", info)
	}
	close(breaks)
	released(broken)
	waittest.Next(t, "the process before has drained", stopped)
	close(predecessor)
}
