package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

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
		if i == 5*(task.Attempt+1) {
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

func TestResultsThatComeFastAreWrittenTogether(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	const n = 1000
	a := r.agent("a", newHost(map[string]work{"do": count(n, nil)}))
	id := r.submit(dispatch.Task{})
	r.becomes(id, dispatch.Succeeded)
	r.counted(id, n)
	got, err := r.client.Get(t.Context(), dispatch.Prefix("")+"result/"+a.id+"/"+id+"/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	writes := map[int64]bool{}
	for _, kv := range got.Kvs {
		writes[kv.ModRevision] = true
	}
	if len(writes) > n/4 {
		t.Errorf("%d results took %d transactions", n, len(writes))
	}
	t.Logf("%d results in %d transactions", n, len(writes))
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
	waittest.Next(t, "it has yielded four", stuck)
	waiting := r.submit(dispatch.Task{}) // in the inbox, behind the one that runs
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

// A plugin that is told 0 takes it that nothing of the task has been done.
func TestPluginIsToldThatATaskIsNewTheFirstTimeOnly(t *testing.T) {
	r := newRig(t)
	r.dispatcher("d")
	told := make(chan int, 10)
	ends := []error{plugin.ErrInterrupted, errors.New("fails"), nil}
	r.agent("a", newHost(map[string]work{"do": func(_ context.Context, task plugin.Task, _ func(plugin.Result) error) error {
		told <- task.Attempt
		err := ends[0]
		ends = ends[1:]
		return err
	}}))
	id := r.submit(dispatch.Task{Retry: dispatch.Retry{MinBackoff: time.Millisecond}})
	if info := r.becomes(id, dispatch.Succeeded); info.Attempt != 2 {
		t.Errorf("got %+v", info)
	}
	for _, want := range []int{0, 1, 1} {
		if got := waittest.Next(t, "a run", told); got != want {
			t.Errorf("it was told %d, want %d", got, want)
		}
	}
}
