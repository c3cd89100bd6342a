package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

func TestUrgentTasksAreAssignedFirst(t *testing.T) {
	r := newRig(t)
	var want []string
	for _, p := range []int{0, 5, -5, 5} {
		want = append(want, r.submit(dispatch.Task{Priority: p}))
	}
	want = []string{want[1], want[3], want[0], want[2]}
	var mu sync.Mutex
	var order []string
	r.agent("a", newHost(map[string]work{"do": func(_ context.Context, task plugin.Task, _ func(plugin.Result) error) error {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, task.ID)
		return nil
	}}), func(c *dispatch.WorkerConfig) { c.Concurrency, c.Backlog = 1, -1 })
	r.dispatcher("d")
	for _, id := range want {
		r.becomes(id, dispatch.Succeeded)
	}
	if !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
}

func TestTaskIsNotStarvedByUrgentOnesThatKeepComing(t *testing.T) {
	r := newRig(t)
	low := r.submit(dispatch.Task{Priority: -1000})
	r.submitAll(30, dispatch.Task{Priority: 1000})
	ran := make(chan string)
	r.agent("a", newHost(map[string]work{"do": func(ctx context.Context, task plugin.Task, _ func(plugin.Result) error) error {
		select {
		case ran <- task.ID:
		case <-ctx.Done():
		}
		return nil
	}}), func(c *dispatch.WorkerConfig) { c.Concurrency, c.Backlog = 1, -1 })
	r.dispatcher("d")
	for i := range 15 {
		if got := waittest.Next(t, "the next task", ran); got == low {
			if i < 5 {
				t.Errorf("it came as number %d, before what is urgent", i+1)
			}
			return
		}
	}
	t.Error("it has not come to its turn among 15")
}

func TestAssignedTaskIsNotStarvedByUrgentOnes(t *testing.T) {
	r := newRig(t)
	next := make(chan struct{})
	a := r.agent("a", newHost(map[string]work{"do": held(next)}), func(c *dispatch.WorkerConfig) { c.Concurrency, c.Backlog = 1, 1 })
	r.dispatcher("d")
	first := r.submit(dispatch.Task{})
	r.becomes(first, dispatch.Running)
	low := r.submit(dispatch.Task{Priority: -10})
	r.becomes(low, dispatch.Assigned)
	urgent := r.submitAll(5, dispatch.Task{Priority: 1000})
	next <- struct{}{}
	r.becomes(low, dispatch.Running)
	close(next)
	for _, id := range append(urgent, first, low) {
		r.becomes(id, dispatch.Succeeded)
	}
	if n := a.host.runs(low); n != 1 {
		t.Errorf("it ran %d times", n)
	}
}

func TestTimesOfATaskAreKept(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	r.agent("a", newHost(map[string]work{"do": nothing, "endless": endless}))
	r.becomes(r.submit(dispatch.Task{}), dispatch.Succeeded) // all are there
	begin := time.Now().Add(700 * time.Millisecond)
	later := r.submit(dispatch.Task{NotBefore: begin})
	if info := r.get(later); info.State == dispatch.Queued && !strings.Contains(info.Waiting, "not to begin before") {
		t.Errorf("it waits because %q", info.Waiting)
	}
	late := r.submit(dispatch.Task{Deadline: time.Now().Add(500 * time.Millisecond), Selector: ".id=nobody"})
	cut := r.submit(dispatch.Task{Capability: "endless", Deadline: time.Now().Add(2 * time.Second)})
	slow := r.submit(dispatch.Task{Capability: "endless", Timeout: 100 * time.Millisecond, Retry: dispatch.Retry{Max: -1}})
	if info := r.becomes(later, dispatch.Succeeded); info.Attempts[0].Assigned.Before(begin.Add(-time.Millisecond)) {
		t.Errorf("assigned at %s, not before %s", info.Attempts[0].Assigned, begin)
	}
	if info := r.becomes(late, dispatch.Expired); info.Attempt != 0 || !strings.Contains(info.Error, "before it could begin") {
		t.Errorf("got %+v", info)
	}
	if info := r.becomes(cut, dispatch.Expired); info.Attempt != 1 || info.Attempts[0].Ended != "expired" {
		t.Errorf("got %+v", info)
	}
	if info := r.becomes(slow, dispatch.Dead); !strings.Contains(info.Error, "longer than its timeout") {
		t.Errorf("got %+v", info)
	}
}

func TestTaskIsCancelledWhereverItIs(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	ended := make(chan struct{}, 1)
	r.agent("a", newHost(map[string]work{"do": func(ctx context.Context, _ plugin.Task, _ func(plugin.Result) error) error {
		<-ctx.Done()
		ended <- struct{}{}
		return ctx.Err()
	}}), func(c *dispatch.WorkerConfig) { c.Concurrency, c.Backlog = 1, 1 })
	running := r.submit(dispatch.Task{})
	r.becomes(running, dispatch.Running)
	assigned := r.submit(dispatch.Task{})
	r.becomes(assigned, dispatch.Assigned)
	queued := r.submit(dispatch.Task{})
	for _, id := range []string{queued, assigned, running} {
		if err := r.queue.Cancel(t.Context(), id, "op"); err != nil {
			t.Fatal(err)
		}
		if info := r.becomes(id, dispatch.Cancelled); info.CancelledBy != "op" {
			t.Errorf("got %+v", info)
		}
		if err := r.queue.Cancel(t.Context(), id, "op"); !errors.Is(err, dispatch.ErrFinished) {
			t.Errorf("again: want ErrFinished, got %v", err)
		}
	}
	waittest.Next(t, "the plugin's work ends", ended)
	if err := r.queue.Cancel(t.Context(), "nothing", "op"); !errors.Is(err, dispatch.ErrNotFound) {
		t.Errorf("want ErrNotFound, got %v", err)
	}
	r.clean("a")
}

// clean waits until nothing is left of assignments.
func (r *rig) clean(agents ...string) {
	r.Helper()
	for _, agent := range agents {
		for _, kind := range []string{"inbox", "claim", "outcome"} {
			prefix := "/agents/tasks/" + kind + "/" + agent + "/"
			waittest.Until(r.T, "nothing is left below "+prefix, func() bool {
				got, err := r.client.Get(r.Context(), prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
				return err == nil && got.Count == 0
			})
		}
	}
}

func TestFailedTaskIsTriedAgainAndThenDead(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	var mu sync.Mutex
	failing := true
	a := r.agent("a", newHost(map[string]work{
		"do": func(_ context.Context, task plugin.Task, _ func(plugin.Result) error) error {
			mu.Lock()
			defer mu.Unlock()
			if failing {
				return fmt.Errorf("attempt %d fails", task.Attempt)
			}
			return nil
		},
		"never": func(context.Context, plugin.Task, func(plugin.Result) error) error {
			return fmt.Errorf("%w: not with me", plugin.ErrPermanent)
		},
	}))
	id := r.submit(dispatch.Task{Retry: dispatch.Retry{Max: 2, MinBackoff: 200 * time.Millisecond, MaxBackoff: time.Second}})
	never := r.submit(dispatch.Task{Capability: "never"})
	if info := r.becomes(never, dispatch.Dead); info.Attempt != 1 || !strings.Contains(info.Error, "not with me") {
		t.Errorf("got %+v", info)
	}
	info := r.becomes(id, dispatch.Dead)
	if info.Failures != 3 || len(info.Attempts) != 3 || info.Error != "attempt 2 fails" {
		t.Fatalf("got %+v", info)
	}
	for i, least := range []time.Duration{0, 100 * time.Millisecond, 200 * time.Millisecond} {
		if i > 0 {
			if wait := info.Attempts[i].Assigned.Sub(info.Attempts[i-1].Finished); wait < least || wait > 10*time.Second {
				t.Errorf("attempt %d came after %s, want about %s to %s", i+1, wait, least, 2*least)
			}
		}
	}
	dead, err := r.queue.List(t.Context(), dispatch.Filter{States: []dispatch.State{dispatch.Dead}})
	if err != nil || len(dead) != 2 {
		t.Errorf("the dead-letter list: %+v, %v", dead, err)
	}
	mu.Lock()
	failing = false
	mu.Unlock()
	if err := r.queue.Retry(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if info := r.becomes(id, dispatch.Succeeded); info.Attempt != 4 {
		t.Errorf("got %+v", info)
	}
	if err := r.queue.Retry(t.Context(), id); !errors.Is(err, dispatch.ErrFinished) {
		t.Errorf("a task that has succeeded is run again: %v", err)
	}
	if n := a.host.runs(id); n != 4 {
		t.Errorf("it ran %d times", n)
	}
}

func TestSameTaskIsNotQueuedTwice(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	keys := make(chan string, 10)
	r.agent("a", newHost(map[string]work{"do": func(_ context.Context, task plugin.Task, _ func(plugin.Result) error) error {
		keys <- task.IdempotencyKey
		return nil
	}}))
	task := dispatch.Task{Capability: "do", IdempotencyKey: "order 7/ä", Payload: []byte("x")}
	first, err := r.queue.Submit(t.Context(), task)
	if err != nil || first.Existing {
		t.Fatalf("got %+v, %v", first, err)
	}
	r.becomes(first.ID, dispatch.Succeeded)
	task.Deadline = time.Now().Add(time.Hour)
	if again, err := r.queue.Submit(t.Context(), task); err != nil || again.ID != first.ID || !again.Existing {
		t.Errorf("got %+v, %v", again, err)
	}
	if key := waittest.Next(t, "the key reaches the plugin", keys); key != "order 7/ä" {
		t.Errorf("got %q", key)
	}
	task.Payload = []byte("y")
	if _, err := r.queue.Submit(t.Context(), task); !errors.Is(err, dispatch.ErrConflict) {
		t.Errorf("want ErrConflict, got %v", err)
	}
	if _, err := r.queue.Submit(t.Context(), dispatch.Task{ID: first.ID, Capability: "do"}); !errors.Is(err, dispatch.ErrConflict) {
		t.Errorf("want ErrConflict, got %v", err)
	}
	if err := r.queue.Forget(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := r.queue.Get(t.Context(), first.ID); !errors.Is(err, dispatch.ErrNotFound) {
		t.Errorf("want ErrNotFound, got %v", err)
	}
	if other, err := r.queue.Submit(t.Context(), task); err != nil || other.Existing {
		t.Errorf("got %+v, %v", other, err)
	}
}

func TestFullQueueRefuses(t *testing.T) {
	r := newRig(t)
	q, err := dispatch.NewQueue(dispatch.QueueConfig{Client: r.client, MaxQueued: 3})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := q.Submit(t.Context(), dispatch.Task{ID: fmt.Sprint("t", i), Capability: "do"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := q.Submit(t.Context(), dispatch.Task{Capability: "do"}); !errors.Is(err, dispatch.ErrQueueFull) {
		t.Errorf("want ErrQueueFull, got %v", err)
	}
	if s, err := q.Submit(t.Context(), dispatch.Task{ID: "t1", Capability: "do"}); err != nil || !s.Existing {
		t.Errorf("one that is there: %+v, %v", s, err)
	}
	if err := q.Cancel(t.Context(), "t0", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Submit(t.Context(), dispatch.Task{Capability: "do"}); err != nil {
		t.Errorf("there is room again: %v", err)
	}
}

func TestFinishedTasksAreCollectedWithAllTheyLeft(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d", func(c *dispatch.DispatcherConfig) { c.CollectEvery = 50 * time.Millisecond })
	r.agent("a", newHost(map[string]work{"do": func(_ context.Context, _ plugin.Task, deliver func(plugin.Result) error) error {
		return deliver(plugin.Result{Payload: []byte("x")})
	}}))
	payload := []byte(strings.Repeat("x", 2000))
	stays := r.submit(dispatch.Task{IdempotencyKey: "other", Payload: payload})
	r.becomes(stays, dispatch.Succeeded)
	for i := range 3 {
		r.submit(dispatch.Task{ResultTTL: 200 * time.Millisecond, IdempotencyKey: fmt.Sprint(i), Payload: payload})
	}
	waittest.Nil(t, "only what belongs to the other is left", func() error {
		got, err := r.client.Get(t.Context(), "/agents/tasks/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err == nil && len(got.Kvs) != 7 { // leader, worker, spec, payload, done, key, result
			err = fmt.Errorf("%v", got.Kvs)
		}
		return err
	})
	if results, err := r.queue.Results(t.Context(), stays, 0, 0); err != nil || len(results) != 1 {
		t.Errorf("got %v, %v", results, err)
	}
}

func TestAgentRunsNoMoreThanItMay(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	var mu sync.Mutex
	now, most := 0, 0
	next := make(chan struct{})
	a := r.agent("a", newHost(map[string]work{"do": func(ctx context.Context, _ plugin.Task, _ func(plugin.Result) error) error {
		mu.Lock()
		now++
		most = max(most, now)
		mu.Unlock()
		<-next
		mu.Lock()
		now--
		mu.Unlock()
		return nil
	}}), func(c *dispatch.WorkerConfig) { c.Concurrency, c.Backlog = 2, 3 })
	ids := r.submitAll(20, dispatch.Task{})
	waittest.Until(t, "it has what it may have", func() bool {
		list, err := r.queue.List(t.Context(), dispatch.Filter{Agent: "a"})
		mu.Lock()
		defer mu.Unlock()
		return err == nil && len(list) == 5 && a.worker.Running() == 2 && now == 2
	})
	waiting, err := r.queue.List(t.Context(), dispatch.Filter{States: []dispatch.State{dispatch.Queued}})
	if err != nil || len(waiting) != 15 || !strings.Contains(waiting[0].Waiting, "once it has room") {
		t.Errorf("%+v wait, %v", waiting, err)
	}
	close(next)
	for _, id := range ids {
		r.becomes(id, dispatch.Succeeded)
	}
	if most != 2 {
		t.Errorf("%d ran at once, want 2", most)
	}
}
