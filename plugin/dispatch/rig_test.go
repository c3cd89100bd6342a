package dispatch_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/tracetest"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

// work is what a plugin of a test does with a task.
type work func(ctx context.Context, t plugin.Task, deliver func(plugin.Result) error) error

// host runs tasks in this process, by capability.
type host struct {
	mu      sync.Mutex
	plugins []plugin.Status
	does    map[string]work
	ran     map[string]int // by task
}

// newHost has one plugin called p of version 1.0.0 that can do all of does.
func newHost(does map[string]work) *host {
	s := plugin.Status{Name: "p", Version: "1.0.0", State: plugin.Running}
	for capability := range does {
		s.Capabilities = append(s.Capabilities, capability)
	}
	return &host{plugins: []plugin.Status{s}, does: does, ran: map[string]int{}}
}

func (h *host) List() []plugin.Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]plugin.Status{}, h.plugins...)
}

func (h *host) set(plugins ...plugin.Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.plugins = plugins
}

func (h *host) Execute(ctx context.Context, _ string, t plugin.Task, deliver func(plugin.Result) error) error {
	h.mu.Lock()
	h.ran[t.ID]++
	h.mu.Unlock()
	err := h.does[t.Capability](ctx, t, deliver)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (h *host) runs(id string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ran[id]
}

// nothing is done at once.
func nothing(context.Context, plugin.Task, func(plugin.Result) error) error { return nil }

// endless ends with its context only.
func endless(ctx context.Context, _ plugin.Task, _ func(plugin.Result) error) error {
	<-ctx.Done()
	return ctx.Err()
}

// held is done once release is closed.
func held(release <-chan struct{}) work {
	return func(ctx context.Context, _ plugin.Task, _ func(plugin.Result) error) error {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil
	}
}

// rig is a queue in an etcd of its own.
type rig struct {
	*testing.T
	server *etcdtest.Server
	client *clientv3.Client
	queue  *dispatch.Queue
	log    *waittest.Log
	logger *slog.Logger
	spans  *tracetest.Recorder
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigWith(t, etcdtest.Options{})
}

func newRigWith(t *testing.T, o etcdtest.Options) *rig {
	t.Helper()
	t.Parallel()
	s := etcdtest.StartWith(t, o)
	r := &rig{T: t, server: s, client: s.Client(t), log: &waittest.Log{}, spans: &tracetest.Recorder{}}
	r.logger = slog.New(slog.NewTextHandler(r.log, nil))
	var err error
	if r.queue, err = dispatch.NewQueue(dispatch.QueueConfig{Client: r.client, TracerProvider: r.spans}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if open := r.spans.Open(); len(open) > 0 { // everything has ended by now
			t.Errorf("spans that nothing ended: %q", open)
		}
		if t.Failed() {
			t.Logf("log:\n%s", r.log)
		}
	})
	return r
}

// background runs run until the returned function is called, or the test ends.
func (r *rig) background(run func(context.Context) error) (stop func()) {
	r.Helper()
	return waittest.Background(r.T, run)
}

// dispatcher runs one until it is stopped.
func (r *rig) dispatcher(id string, set ...func(*dispatch.DispatcherConfig)) (stop func()) {
	r.Helper()
	cfg := dispatch.DispatcherConfig{Client: r.client, ID: id, TTL: time.Second, Grace: 100 * time.Millisecond, TracerProvider: r.spans, Logger: r.logger}
	for _, s := range set {
		s(&cfg)
	}
	d, err := dispatch.NewDispatcher(cfg)
	if err != nil {
		r.Fatal(err)
	}
	return r.background(d.Run)
}

// agent is one with a lease of its own.
type agent struct {
	*rig
	id      string
	host    *host
	session *etcdkv.Session
	worker  *dispatch.Worker
	stop    func() // of the worker
	die     func() // of the session, whose lease ends
}

func (r *rig) agent(id string, h *host, set ...func(*dispatch.WorkerConfig)) *agent {
	r.Helper()
	a := &agent{rig: r, id: id, host: h}
	var err error
	if a.session, err = etcdkv.NewSession(etcdkv.SessionConfig{Client: r.client, TTL: 2 * time.Second}); err != nil {
		r.Fatal(err)
	}
	end := r.background(a.session.Run)
	a.die = func() {
		end()
		if err := a.session.Revoke(context.Background()); err != nil {
			r.Error(err)
		}
	}
	a.start("1", set...)
	return a
}

// start runs a worker of the agent's as another instance.
func (a *agent) start(instance string, set ...func(*dispatch.WorkerConfig)) {
	a.Helper()
	cfg := dispatch.WorkerConfig{
		Client: a.client, AgentID: a.id, Instance: a.id + "-" + instance, Plugins: a.host, TracerProvider: a.spans, Logger: a.logger,
		Lease: func() clientv3.LeaseID { return clientv3.LeaseID(a.session.Lease()) },
	}
	for _, s := range set {
		s(&cfg)
	}
	var err error
	if a.worker, err = dispatch.NewWorker(cfg); err != nil {
		a.Fatal(err)
	}
	a.stop = a.background(a.worker.Run)
}

func (r *rig) submit(t dispatch.Task) string {
	r.Helper()
	if t.Capability == "" && t.Plugin == "" {
		t.Capability = "do"
	}
	s, err := r.queue.Submit(r.Context(), t)
	if err != nil {
		r.Fatal(err)
	}
	return s.ID
}

func (r *rig) get(id string) dispatch.Info {
	r.Helper()
	info, err := r.queue.Get(r.Context(), id)
	if err != nil {
		r.Fatal(err)
	}
	return info
}

// ends waits until the list has a task in a state; that does not read its
// payload.
func (r *rig) ends(id string, want dispatch.State) dispatch.Info {
	r.Helper()
	var info dispatch.Info
	waittest.Until(r.T, fmt.Sprintf("task %s ends %s", id, want), func() bool {
		list, _ := r.queue.List(r.Context(), dispatch.Filter{States: []dispatch.State{want}})
		for _, info = range list {
			if info.ID == id {
				return true
			}
		}
		return false
	})
	return info
}

// becomes waits until a task is in a state.
func (r *rig) becomes(id string, want dispatch.State) dispatch.Info {
	r.Helper()
	var info dispatch.Info
	waittest.Nil(r.T, fmt.Sprintf("task %s becomes %s", id, want), func() error {
		var err error
		info, err = r.queue.Get(r.Context(), id)
		if err == nil && info.State != want {
			err = fmt.Errorf("it is %s: %s %s", info.State, info.Waiting, info.Error)
		}
		return err
	})
	return info
}
