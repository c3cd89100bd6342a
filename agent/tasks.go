package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

// Tasks says what an agent does about the tasks of its fleet, see package
// plugin/dispatch. The zero value has its plugins run them, and assigns none.
type Tasks struct {
	// Off has this agent run no tasks. Without plugins it runs none anyhow.
	Off bool
	// Concurrency is how many run at once; default 4, at most 10,000.
	Concurrency int
	// Dispatch has this agent stand for election as the one that assigns the
	// tasks of the fleet. Any number of agents may, and one at least must, unless
	// another program does it. It takes the right to write all keys below
	// tasks/: an agent without it says so once, and leaves it to others.
	Dispatch bool
}

func (t Tasks) check() error {
	if t.Concurrency < 0 || t.Concurrency > 10_000 {
		return fmt.Errorf("Tasks.Concurrency is %d: want 0, for the default, to 10000", t.Concurrency)
	}
	return nil
}

// tasking is an agent's part in the tasks of its fleet.
type tasking struct {
	*Agent
	// instance names this process: what the one before has begun is its own
	// until it has ended.
	instance string
	worker   atomic.Pointer[dispatch.Worker] // nil while there is none
	// ended is closed when no task runs here any more.
	ended chan struct{}
}

func newTasking(a *Agent) *tasking {
	return &tasking{Agent: a, instance: rand.Text(), ended: make(chan struct{})}
}

// changed tells that the plugins or the lease are others now.
func (t *tasking) changed() {
	if w := t.worker.Load(); w != nil {
		w.Changed()
	}
}

// begin is called once this process is in charge. The program's drain waits
// for the tasks that run.
func (t *tasking) begin(r *running) {
	if t.plugins == nil || t.cfg.Tasks.Off {
		close(t.ended)
	} else {
		t.Go("tasks", func(ctx context.Context) error {
			defer close(t.ended)
			return t.again(ctx, "running tasks", errTasks, t.work)
		})
	}
	if t.cfg.Tasks.Dispatch {
		r.start(r.host, "assignment of tasks", func(ctx context.Context) error {
			return t.again(ctx, "assigning tasks", errTasks, t.assign)
		})
	}
}

// pluginsUntil is a context for the plugins of an agent that runs tasks. It ends when
// draining begins if a successor takes the plugins over, and else when the
// tasks on them have ended.
func (t *tasking) pluginsUntil(r *running) context.Context {
	ctx, end := context.WithCancel(r.life)
	r.tasks.Go(func() {
		defer end()
		<-r.host.Done()
		if r.upgrader.Successor() == 0 {
			<-t.ended
		}
	})
	return ctx
}

// errTasks is of what trying again does not mend.
var errTasks = errors.New("Config.Tasks")

// again calls f until ctx ends: the fleet's work is no reason for an agent to
// end. An error that is wrong is one that trying again does not mend.
func (a *Agent) again(ctx context.Context, what string, wrong error, f func(context.Context) error) error {
	retry := backoff.Backoff{Max: time.Minute}
	said := ""
	for ctx.Err() == nil {
		err := f(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // its end was asked for
		}
		if errors.Is(err, wrong) {
			return err
		}
		if now := fmt.Sprint(err); now != said {
			said = now
			a.log.Error("no part in the work of the fleet for now", "name", what, "error", err)
		}
		_ = retry.Wait(ctx) // the loop sees ctx's end
	}
	return nil
}

// work runs tasks until ctx ends, and then those that have begun to their end,
// as far as the drain allows.
func (t *tasking) work(ctx context.Context) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	w, err := dispatch.NewWorker(dispatch.WorkerConfig{
		Client: t.presence.client, Root: t.presence.registry.keys.root, AgentID: t.cfg.ID, Instance: t.instance,
		Lease:  func() clientv3.LeaseID { return clientv3.LeaseID(t.presence.registry.leased()) },
		Labels: t.cfg.Labels, Groups: t.cfg.Groups,
		Host: host, Platform: runtime.GOOS + "/" + runtime.GOARCH, Version: t.cfg.Version,
		Plugins: t.plugins, Concurrency: t.cfg.Tasks.Concurrency,
		// The rest of the drain is for giving back what has not ended.
		DrainTimeout:   t.cfg.Drain.WithDefaults().Timeout * 2 / 3,
		Predecessor:    t.upgrader.Predecessor(),
		TracerProvider: t.cfg.TracerProvider,
		Metrics:        t.metrics.tasks,
		Logger:         t.log,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errTasks, err)
	}
	t.worker.Store(w)
	defer t.worker.Store(nil)
	return w.Run(ctx)
}

// assign stands for election and assigns tasks while elected.
func (t *tasking) assign(ctx context.Context) error {
	d, err := dispatch.NewDispatcher(dispatch.DispatcherConfig{
		Client: t.presence.client, Root: t.presence.registry.keys.root, ID: t.cfg.ID,
		Metrics: t.metrics.tasks, TracerProvider: t.cfg.TracerProvider, Logger: t.log,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errTasks, err)
	}
	return d.Run(ctx)
}
