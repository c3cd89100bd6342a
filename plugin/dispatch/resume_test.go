package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

// count yields numbers from its cursor to n; every third has a cursor. What
// before returns an error for is not yielded.
func count(n int, before func(ctx context.Context, t plugin.Task, i int) error) work {
	return func(ctx context.Context, t plugin.Task, deliver func(plugin.Result) error) error {
		from, _ := strconv.Atoi(t.Cursor)
		for i := from + 1; i <= n; i++ {
			if before != nil {
				if err := before(ctx, t, i); err != nil {
					return err
				}
			}
			r := plugin.Result{Payload: []byte(strconv.Itoa(i))}
			if i%3 == 0 {
				r.Cursor = strconv.Itoa(i)
			}
			if err := deliver(r); err != nil {
				return err
			}
		}
		return nil
	}
}

// counted says what is wrong with the results of count.
func (r *rig) counted(id string, n int) {
	r.Helper()
	results, err := r.queue.Results(r.Context(), id, 0, 1000)
	if err != nil {
		r.Fatal(err)
	}
	var got []string
	for i, one := range results {
		got = append(got, string(one.Payload))
		if one.Number != int64(i+1) || string(one.Payload) != strconv.Itoa(i+1) {
			r.Errorf("result %d has number %d and says %s", i+1, one.Number, one.Payload)
		}
	}
	if len(results) != n {
		r.Errorf("want 1 to %d, got %v", n, got)
	}
}

func TestRepeatedRunGoesOnFromItsCursorAndDoublesNoResult(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	fails := func(_ context.Context, task plugin.Task, i int) error {
		if i == 5*task.Attempt {
			return fmt.Errorf("fails at %d", i)
		}
		return nil
	}
	interrupted := map[int]bool{}
	breaks := func(_ context.Context, _ plugin.Task, i int) error {
		if i%5 == 0 && !interrupted[i] {
			interrupted[i] = true
			return fmt.Errorf("%w: replaced", plugin.ErrInterrupted)
		}
		return nil
	}
	for _, id := range []string{"a", "b"} {
		r.agent(id, newHost(map[string]work{"fails": count(20, fails)}))
	}
	r.agent("c", newHost(map[string]work{"breaks": count(20, breaks)}))
	failing := r.submit(dispatch.Task{Capability: "fails", Retry: dispatch.Retry{Max: 5, MinBackoff: time.Millisecond}})
	broken := r.submit(dispatch.Task{Capability: "breaks"})
	if info := r.becomes(failing, dispatch.Succeeded); info.Attempt != 5 || info.Results != 20 {
		t.Errorf("got %+v", info)
	} else {
		for i, attempt := range info.Attempts[1:] {
			if attempt.Agent == info.Attempts[i].Agent {
				t.Errorf("attempt %d was made where the one before had failed", attempt.Number)
			}
		}
	}
	if info := r.becomes(broken, dispatch.Succeeded); info.Attempt != 1 || info.Results != 20 {
		t.Errorf("got %+v", info)
	}
	r.counted(failing, 20)
	r.counted(broken, 20)
}

func TestPluginThatEndsUnderATaskAgainAndAgainFailsIt(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	a := r.agent("a", newHost(map[string]work{"do": func(context.Context, plugin.Task, func(plugin.Result) error) error {
		return fmt.Errorf("%w: it died", plugin.ErrInterrupted)
	}}))
	id := r.submit(dispatch.Task{Retry: dispatch.Retry{Max: 1, MinBackoff: time.Millisecond}})
	if info := r.becomes(id, dispatch.Dead); info.Failures != 2 || !strings.Contains(info.Error, "interrupted 4 times") {
		t.Errorf("got %+v", info)
	}
	if n := a.host.runs(id); n != 8 {
		t.Errorf("the plugin was killed %d times, want 8", n)
	}
}

func TestResultsAreBoundedAndThatIsTold(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	r.agent("a", newHost(map[string]work{"do": func(_ context.Context, _ plugin.Task, deliver func(plugin.Result) error) error {
		for range 10 {
			if err := deliver(plugin.Result{Payload: make([]byte, 300)}); err != nil {
				return err
			}
		}
		return nil
	}}), func(c *dispatch.WorkerConfig) { c.ResultBytes, c.ResultsBytes = 100, 550 })
	id := r.submit(dispatch.Task{})
	if info := r.becomes(id, dispatch.Succeeded); info.Results != 5 || info.ResultBytes != 500 || !info.Cut {
		t.Errorf("got %+v", info)
	}
	results, err := r.queue.Results(t.Context(), id, 3, 10)
	if err != nil || len(results) != 2 || len(results[0].Payload) != 100 || results[0].Bytes != 300 || results[0].Number != 4 {
		t.Errorf("got %+v, %v", results, err)
	}
}

func TestResultsAreFollowedWhileTheyCome(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	next := make(chan struct{})
	r.agent("a", newHost(map[string]work{"do": count(5, func(ctx context.Context, _ plugin.Task, _ int) error {
		select {
		case <-next:
		case <-ctx.Done():
		}
		return nil
	})}))
	id := r.submit(dispatch.Task{})
	results := make(chan dispatch.Result, 10)
	type end struct {
		info dispatch.Info
		err  error
	}
	ended := make(chan end, 1)
	go func() {
		info, err := r.queue.Follow(t.Context(), id, 0, func(r dispatch.Result) error {
			results <- r
			return nil
		})
		ended <- end{info, err}
	}()
	for i := range 5 {
		next <- struct{}{}
		if got := waittest.Next(t, "the next result", results); string(got.Payload) != strconv.Itoa(i+1) {
			t.Errorf("got %s, want %d", got.Payload, i+1)
		}
	}
	if e := waittest.Next(t, "the end", ended); e.err != nil || e.info.State != dispatch.Succeeded {
		t.Errorf("got %+v", e)
	}
	want := errors.New("enough")
	if _, err := r.queue.Follow(t.Context(), id, 0, func(dispatch.Result) error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

func TestAgentThatIsLostGivesItsTasksBack(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	stuck := make(chan struct{})
	proxy := r.server.Proxy(t)
	lost := proxy.Client(t)
	h := newHost(map[string]work{"do": count(7, func(_ context.Context, _ plugin.Task, i int) error {
		if i == 5 {
			stuck <- struct{}{}
			<-stuck
		}
		return nil
	})})
	a := r.agent("a", h, func(c *dispatch.WorkerConfig) { c.Client, c.Concurrency = lost, 1 })
	id := r.submit(dispatch.Task{})
	waiting := r.submit(dispatch.Task{}) // in the inbox
	waittest.Next(t, "it has yielded four", stuck)
	r.becomes(waiting, dispatch.Assigned)
	proxy.Freeze()
	a.die() // as etcd sees it; the worker does not know
	r.agent("b", newHost(map[string]work{"do": count(7, nil)}))
	info := r.becomes(id, dispatch.Succeeded)
	if info.Agent != "b" || info.Losses != 1 || info.Attempts[0].Ended != "lost" {
		t.Errorf("got %+v", info)
	}
	if info := r.becomes(waiting, dispatch.Succeeded); info.Losses != 0 || info.Attempts[0].Ended != "withdrawn" {
		t.Errorf("got %+v", info)
	}
	proxy.Heal()
	close(stuck) // what it yields now is not written, and nor is its end
	waittest.Until(t, "the one that was cut off has given up", func() bool { return a.worker.Running() == 0 })
	r.counted(id, 7)
	if again := r.becomes(id, dispatch.Succeeded); again.Agent != "b" || again.Attempt != 2 {
		t.Errorf("got %+v", again)
	}
	r.clean("a", "b")
	r.judge(nil)
}

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
	h := newHost(map[string]work{"do": count(7, func(ctx context.Context, task plugin.Task, i int) error {
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
	proxy.Heal()
	close(done)
	waittest.Until(t, "the one before has given up", func() bool { return before.Running() == 0 })
	r.counted(id, 7)
	r.judge(nil)
}

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
	waittest.Until(t, "it has noticed", func() bool { return r.log.Has("this dispatcher's term has ended") })
	if info := r.get(id); info.Attempt != 0 {
		t.Errorf("it assigns all the same: %+v", info)
	}
}

// What a process has sent to etcd may arrive after its end, and after its
// successor has looked at what it left.
func TestClaimThatWasUnderWayWhenItsProcessWasReplacedIsRefused(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	proxy := r.server.Proxy(t)
	client := proxy.Client(t)
	a := r.agent("a", newHost(map[string]work{"do": endless}), func(c *dispatch.WorkerConfig) { c.Client, c.Concurrency, c.DrainTimeout = client, 2, -1 })
	waittest.Until(t, "it takes tasks", func() bool {
		workers, err := r.queue.Workers(t.Context())
		return err == nil && len(workers) == 1
	})
	proxy.FreezeWay(etcdtest.ToServer)
	ids := r.submitAll(2, dispatch.Task{})
	waittest.Until(t, "it is about to claim both", func() bool { return a.worker.Running() == 2 })
	before := a.worker
	release := make(chan struct{})
	a.host = newHost(map[string]work{"do": held(release)})
	a.start("2", func(c *dispatch.WorkerConfig) { c.Concurrency, c.Backlog = 1, 1 })
	r.becomes(ids[0], dispatch.Running)
	proxy.Heal()
	waittest.Until(t, "the one before has given up", func() bool { return before.Running() == 0 })
	close(release)
	for _, id := range ids {
		if info := r.becomes(id, dispatch.Succeeded); info.Attempt != 1 {
			t.Errorf("got %+v", info)
		}
	}
}

func TestResultsOfARunThatIsRepeatedAreGone(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	for name, err := range map[string]error{"fails": errors.New("once"), "breaks": fmt.Errorf("%w: once", plugin.ErrInterrupted)} {
		n := 3
		r.agent(name, newHost(map[string]work{name: func(_ context.Context, _ plugin.Task, deliver func(plugin.Result) error) error {
			for range n {
				if err := deliver(plugin.Result{Payload: []byte("1")}); err != nil {
					return err
				}
			}
			if n == 1 {
				return nil
			}
			n = 1
			return err
		}}))
		id := r.submit(dispatch.Task{Capability: name, Retry: dispatch.Retry{MinBackoff: time.Millisecond}})
		r.becomes(id, dispatch.Succeeded)
		r.counted(id, 1)
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

// A release that is rolled back leaves what its process had begun.
func TestProcessWhoseSuccessorHasFailedTakesOver(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	a := r.agent("a", newHost(map[string]work{"do": nothing}))
	first := a.worker
	r.becomes(r.submit(dispatch.Task{}), dispatch.Succeeded)
	proxy := r.server.Proxy(t)
	client := proxy.Client(t)
	done := make(chan struct{})
	a.host = newHost(map[string]work{"do": held(done)})
	a.start("2", func(c *dispatch.WorkerConfig) { c.Client, c.DrainTimeout = client, -1 })
	waittest.Until(t, "the successor works", func() bool {
		workers, err := r.queue.Workers(t.Context())
		return err == nil && len(workers) == 1 && workers[0].Instance == "a-2"
	})
	id := r.submit(dispatch.Task{})
	r.becomes(id, dispatch.Running)
	proxy.Freeze()
	first.TakeOver()
	for _, id := range []string{id, r.submit(dispatch.Task{})} {
		if info := r.becomes(id, dispatch.Succeeded); info.Attempt != 1 {
			t.Errorf("got %+v", info)
		}
	}
	close(done)
	proxy.Heal()
	waittest.Until(t, "the successor has given up", func() bool { return a.worker.Running() == 0 })
	r.judge(nil)
}
