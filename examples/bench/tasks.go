package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/perennial-go/perennial/examples/internal/sleep"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

const (
	// submitters is how many clients submit, and write in the raw arm.
	submitters = 16
	// taskTTL is how long a dead agent keeps its tasks, less than by default:
	// what is measured is not the wait.
	taskTTL = 5 * time.Second
	// killEvery and killDispatcherEvery are the pauses between two kills.
	killEvery           = 300 * time.Millisecond
	killDispatcherEvery = 4 * time.Second
	// taskWork is how long a task takes at most.
	taskWork = 20 * time.Millisecond
)

// measureTasks has many tasks done by many agents in processes of their own,
// which are killed meanwhile; then a steady flow of tasks without kills.
func measureTasks(ctx context.Context, b *bench) (f figure, err error) {
	n, agents := b.times(10_000, 200), b.times(100, 8)
	data, err := b.path("etcd-tasks")
	if err != nil {
		return figure{}, err
	}
	etcd, err := b.launchEtcd(ctx, data, "127.0.0.1:0")
	if err != nil {
		return figure{}, err
	}
	defer func() { err = errors.Join(err, etcd.stop()) }()
	c, err := agentClient(etcd.url)
	if err != nil {
		return figure{}, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	queue, err := dispatch.NewQueue(dispatch.QueueConfig{Client: c})
	if err != nil {
		return figure{}, err
	}
	rawTime := time.Duration(b.times(10, 2)) * time.Second
	rawBefore, err := rawTransactions(ctx, etcd.url, rawTime)
	if err != nil {
		return figure{}, err
	}
	fleet, err := b.startTaskFleet(ctx, etcd.url)
	if err != nil {
		return figure{}, err
	}
	defer func() { err = errors.Join(err, fleet.stop()) }()
	for range agents {
		if err := fleet.addAgent(); err != nil {
			return figure{}, err
		}
	}
	if err := fleet.await(ctx, queue, agents); err != nil {
		return figure{}, err
	}
	b.say("tasks: %d agents are there", agents)

	began := time.Now()
	ids, err := submitTasks(ctx, queue, n)
	if err != nil {
		return figure{}, err
	}
	submitted := time.Since(began)
	b.say("tasks: %d are queued", n)
	began = time.Now()
	if err := fleet.work(ctx, c, n); err != nil {
		return figure{}, err
	}
	took := time.Since(began)
	b.say("tasks: %d are done, %d agents and %d dispatchers were killed", n, fleet.killed, fleet.unseated)

	if err := fleet.await(ctx, queue, agents); err != nil {
		return figure{}, err
	}
	rate := float64(n) / took.Seconds()
	latency, err := steadyTasks(ctx, queue, b.times(2000, 50), rate/4)
	if err != nil {
		return figure{}, err
	}
	// The fleet would write meanwhile.
	if err := fleet.stop(); err != nil {
		return figure{}, err
	}
	rawAfter, err := rawTransactions(ctx, etcd.url, rawTime)
	if err != nil {
		return figure{}, err
	}
	h, err := readHistory(ctx, c)
	if err != nil {
		return figure{}, err
	}
	begun, err := fleet.runs(ids)
	if err != nil {
		return figure{}, err
	}
	raw := (rawBefore + rawAfter) / 2
	f = figure{
		Measures: measures(latency),
		Verdicts: []verdict{
			within("tasks lost", "", float64(h.lost(ids)), 0),
			within("tasks run again after they were acknowledged", "", float64(h.again), 0),
			{What: "runs that were repeated, having ended with their agent", Value: float64(begun - n)},
			{What: "tasks done, from the election of a dispatcher to the last", Unit: "/s", Value: rate},
			{What: "tasks submitted", Unit: "/s", Value: float64(n) / submitted.Seconds()},
			{What: "raw etcd: transactions of a comparison and two writes", Unit: "/s", Value: raw},
			{What: "raw etcd's transactions in the time of one task", Value: raw / rate},
			{What: "a task of the steady flow, submitted to done, p99", Unit: "ms", Value: latency.quantile(0.99)},
		},
		Notes: []string{
			fmt.Sprintf("%d tasks of 0 to %v each for %d agents, four at a time, each agent a process; all tasks were queued before anyone assigned them", n, taskWork, agents),
			fmt.Sprintf("%d agents were killed, every second one for good and replaced by another, and %d dispatchers of three; TTL %v", fleet.killed, fleet.unseated, taskTTL),
			fmt.Sprintf("the steady flow came at %s tasks a second, without kills; whoever submitted saw the end by a watch", number(rate/4)),
			fmt.Sprintf("raw etcd by %d clients at once, before %s /s and after %s /s; all share the machine with the agents", submitters, number(rawBefore), number(rawAfter)),
		},
	}
	return f, nil
}

// submitTasks puts n tasks into the queue.
func submitTasks(ctx context.Context, queue *dispatch.Queue, n int) (ids []string, err error) {
	var mu sync.Mutex
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(submitters)
	for range n {
		all.Go(func() error {
			s, err := queue.Submit(ctx, benchTask())
			mu.Lock()
			defer mu.Unlock()
			ids = append(ids, s.ID)
			return err
		})
	}
	return ids, all.Wait()
}

func benchTask() dispatch.Task {
	work := rand.N(taskWork) //nolint:gosec // no secret
	return dispatch.Task{Capability: "bench", Payload: []byte(work.String())}
}

// steadyTasks submits n tasks at a rate and measures each until its end is
// known to who submitted it.
func steadyTasks(ctx context.Context, queue *dispatch.Queue, n int, rate float64) (*series, error) {
	s := &series{what: "a task of the steady flow, submitted to done", unit: "ms"}
	var mu sync.Mutex
	all, ctx := errgroup.WithContext(ctx)
	tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer tick.Stop()
	for range n {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), all.Wait())
		}
		all.Go(func() error {
			began := time.Now()
			task, err := queue.Submit(ctx, benchTask())
			if err != nil {
				return err
			}
			info, err := queue.Follow(ctx, task.ID, 0, func(dispatch.Result) error { return nil })
			if err == nil && info.State != dispatch.Succeeded {
				err = fmt.Errorf("task %s: want it %s, found it %s: %s", task.ID, dispatch.Succeeded, info.State, info.Error)
			}
			mu.Lock()
			defer mu.Unlock()
			s.addTime(time.Since(began))
			return err
		})
	}
	return s, all.Wait()
}

// rawTransactions is how many small transactions an etcd does in a second, for
// as many clients as submit tasks.
func rawTransactions(ctx context.Context, url string, d time.Duration) (rate float64, err error) {
	counts := make([]int, submitters)
	until := time.Now().Add(d)
	value := strings.Repeat("v", 300)
	all, ctx := errgroup.WithContext(ctx)
	for i := range submitters {
		all.Go(func() error {
			c, err := plainClient(url)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			for time.Now().Before(until) {
				key := fmt.Sprintf("/raw/%d/%d/%d", until.UnixNano(), i, counts[i])
				_, err := c.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
					Then(clientv3.OpPut(key, value), clientv3.OpPut(key+"/state", value)).Commit()
				if err != nil {
					return err
				}
				counts[i]++
			}
			return nil
		})
	}
	err = all.Wait()
	for _, n := range counts {
		rate += float64(n) / d.Seconds()
	}
	return rate, err
}

// doneTasks counts those that are finished.
func doneTasks(ctx context.Context, c *clientv3.Client) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, clientLimit)
	defer cancel()
	got, err := c.Get(ctx, dispatch.Prefix("")+"done/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return 0, err
	}
	return int(got.Count), nil
}

// work starts the dispatchers and kills agents and dispatchers until n tasks
// are done.
func (t *taskFleet) work(ctx context.Context, c *clientv3.Client, n int) error {
	for range cap(t.dispatchers) {
		if err := t.addDispatcher(); err != nil {
			return err
		}
	}
	unseat := time.Now().Add(killDispatcherEvery)
	for deadline := time.Now().Add(10 * startLimit); ; {
		done, err := doneTasks(ctx, c)
		switch {
		case err != nil:
			return err
		case done == n:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("want %d tasks done within %v, found %d", n, 10*startLimit, done)
		}
		if err := sleep.For(ctx, killEvery); err != nil {
			return err
		}
		if err := t.killAgent(); err != nil {
			return err
		}
		if time.Now().After(unseat) {
			unseat = time.Now().Add(killDispatcherEvery)
			if err := t.killDispatcher(); err != nil {
				return err
			}
		}
	}
}
