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
	// taskAgentLives is how long an agent lives on average, dispatcherLives how
	// long until one of the dispatchers is killed.
	taskAgentLives  = 30 * time.Second
	dispatcherLives = 10 * time.Second
	// taskLook is the pause between two looks at how many are done.
	taskLook = 100 * time.Millisecond
	// taskWork is how long a task takes at most.
	taskWork = 20 * time.Millisecond
)

// measureTasks has many tasks done by many agents in processes of their own,
// which are killed meanwhile; then as many without kills, and a steady flow.
func measureTasks(ctx context.Context, b *bench) (f figure, err error) {
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
	r := &taskRun{bench: b, client: c, url: etcd.url, n: b.times(10_000, 200), agents: b.times(100, 8)}
	if r.queue, err = dispatch.NewQueue(dispatch.QueueConfig{Client: c}); err != nil {
		return figure{}, err
	}
	if r.fleet, err = b.startTaskFleet(ctx, etcd.url); err != nil {
		return figure{}, err
	}
	defer func() { err = errors.Join(err, r.fleet.stop()) }()
	if err := r.measure(ctx); err != nil {
		return figure{}, err
	}
	return r.figure(ctx)
}

// taskRun is one measurement.
type taskRun struct {
	bench     *bench
	client    *clientv3.Client
	queue     *dispatch.Queue
	fleet     *taskFleet
	url       string
	n, agents int

	ids                 []string // of the tasks that are judged
	rawBefore, rawAfter float64
	submitted           float64 // tasks a second, as the next two
	killed, calm        float64
	latency             *series
}

func (r *taskRun) measure(ctx context.Context) (err error) {
	rawTime := time.Duration(r.bench.times(10, 2)) * time.Second
	if r.rawBefore, err = rawTransactions(ctx, r.url, rawTime); err != nil {
		return err
	}
	for range r.agents {
		if err := r.fleet.addAgent(); err != nil {
			return err
		}
	}
	if err := r.fleet.await(ctx, r.queue, r.agents); err != nil {
		return err
	}
	began := time.Now()
	if err := r.submit(ctx); err != nil {
		return err
	}
	r.submitted = float64(r.n) / time.Since(began).Seconds()
	r.bench.say("tasks: %d are queued for %d agents", r.n, r.agents)

	began = time.Now()
	if err := r.fleet.work(ctx, r.client, r.n); err != nil {
		return err
	}
	r.killed = float64(r.n) / time.Since(began).Seconds()
	r.bench.say("tasks: %d are done, %d agents and %d dispatchers were killed", r.n, r.fleet.killed, r.fleet.unseated)

	if err := r.fleet.await(ctx, r.queue, r.agents); err != nil {
		return err
	}
	began = time.Now()
	if err := r.submit(ctx); err != nil {
		return err
	}
	if err := awaitTasks(ctx, r.client, 2*r.n, nil); err != nil {
		return err
	}
	r.calm = float64(r.n) / time.Since(began).Seconds()
	r.bench.say("tasks: as many again are done, without kills")
	if r.latency, err = steadyTasks(ctx, r.queue, r.bench.times(2000, 50), r.calm/4); err != nil {
		return err
	}
	// The fleet would write meanwhile.
	if err := r.fleet.stop(); err != nil {
		return err
	}
	r.rawAfter, err = rawTransactions(ctx, r.url, rawTime)
	return err
}

func (r *taskRun) figure(ctx context.Context) (figure, error) {
	h, err := readHistory(ctx, r.client)
	if err != nil {
		return figure{}, err
	}
	begun, err := r.fleet.runs(r.ids)
	if err != nil {
		return figure{}, err
	}
	raw := (r.rawBefore + r.rawAfter) / 2
	return figure{
		Measures: measures(r.latency),
		Verdicts: []verdict{
			within("tasks lost", "", float64(h.lost(r.ids)), 0),
			within("tasks run again after they were acknowledged", "", float64(h.again), 0),
			{What: "runs that were repeated, having ended with their agent", Value: float64(begun - len(r.ids))},
			{What: "tasks submitted", Unit: "/s", Value: r.submitted},
			{What: "tasks done under kills, from the first election of a dispatcher on", Unit: "/s", Value: r.killed},
			{What: "tasks submitted and done without kills", Unit: "/s", Value: r.calm},
			{What: "raw etcd: transactions of a comparison and two writes", Unit: "/s", Value: raw},
			{What: "raw etcd's transactions in the time of one task without kills", Value: raw / r.calm},
			{What: "a task of the steady flow, submitted to done, p99", Unit: "ms", Value: r.latency.quantile(0.99)},
		},
		Notes: []string{
			fmt.Sprintf("twice %d tasks of 0 to %v each for %d agents, four at a time, each agent a process; the first %d were queued before anyone assigned them", r.n, taskWork, r.agents, r.n),
			fmt.Sprintf("%d agents were killed, every second one for good and replaced by another, and %d dispatchers of three; TTL %v", r.fleet.killed, r.fleet.unseated, taskTTL),
			fmt.Sprintf("the steady flow came at %s tasks a second, without kills; whoever submitted saw the end by a watch", number(r.calm/4)),
			fmt.Sprintf("raw etcd by %d clients at once, before %s /s and after %s /s; all share the machine with the agents", submitters, number(r.rawBefore), number(r.rawAfter)),
		},
	}, nil
}

// submit puts the tasks into the queue.
func (r *taskRun) submit(ctx context.Context) error {
	var mu sync.Mutex
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(submitters)
	for range r.n {
		all.Go(func() error {
			s, err := r.queue.Submit(ctx, benchTask())
			mu.Lock()
			defer mu.Unlock()
			r.ids = append(r.ids, s.ID)
			return err
		})
	}
	return all.Wait()
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

// awaitTasks waits until n tasks are done, and calls between, if there is one,
// every time that it has looked.
func awaitTasks(ctx context.Context, c *clientv3.Client, n int, between func() error) error {
	limit := 10 * startLimit
	for deadline := time.Now().Add(limit); ; {
		done, err := doneTasks(ctx, c)
		switch {
		case err != nil:
			return err
		case done == n:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("want %d tasks done within %v, found %d", n, limit, done)
		}
		if err := sleep.For(ctx, taskLook); err != nil {
			return err
		}
		if between == nil {
			continue
		}
		if err := between(); err != nil {
			return err
		}
	}
}

// work starts the dispatchers and kills agents and dispatchers until n tasks
// are done.
func (t *taskFleet) work(ctx context.Context, c *clientv3.Client, n int) error {
	for range cap(t.dispatchers) {
		if err := t.addDispatcher(); err != nil {
			return err
		}
	}
	pause := taskAgentLives / time.Duration(len(t.agents))
	kill, unseat := time.Now(), time.Now().Add(dispatcherLives)
	return awaitTasks(ctx, c, n, func() error {
		now := time.Now()
		if now.After(unseat) {
			unseat = now.Add(dispatcherLives)
			if err := t.killDispatcher(); err != nil {
				return err
			}
		}
		if now.Before(kill) {
			return nil
		}
		kill = now.Add(pause)
		return t.killAgent()
	})
}
