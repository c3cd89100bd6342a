package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/etcdkv"
)

const (
	// settleTimeout is how long the ends of runs may take to be written once a
	// drain is over.
	settleTimeout = 5 * time.Second
	// refusedWait is the pause after etcd refused a claim.
	refusedWait = 300 * time.Millisecond
)

// entry is an assignment in the inbox.
type entry struct {
	id        string
	revision  int64 // of its key; 0 = there is only a claim
	data      []byte
	cancelled bool
	claimedBy string // instance; "" = nobody
	claimed   int64  // revision of the claim
	settled   bool   // it has ended, and the dispatcher has yet to hear of it
}

// Run takes and runs tasks until ctx ends, then drains, and returns ctx's error.
// It can be called once. It does not end the lease, and needs Client for
// DrainTimeout and some seconds longer than ctx.
func (w *Worker) Run(ctx context.Context) error {
	if w.started.Swap(true) {
		return errors.New("worker: Run called twice")
	}
	watch, err := etcdkv.NewWatch(etcdkv.WatchConfig{
		Client: w.cfg.Client, Prefixes: []string{w.keys.inboxes(w.cfg.AgentID), w.keys.claims(w.cfg.AgentID)},
		Keys: []string{w.keys.worker(w.cfg.AgentID)}, Coalesce: -1, OnChange: w.receive, Logger: w.cfg.Logger,
		OnError: func(err error) {
			if err != nil {
				w.cfg.Logger.Warn("the worker does not see its tasks", "error", err)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	// What runs outlives ctx, until the drain is over.
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	var background, running sync.WaitGroup
	defer background.Wait()
	defer stop()
	background.Go(func() { w.pool.run(inner) })
	background.Go(func() { _ = watch.Run(inner) }) // its error is inner's
	advert := &advert{worker: w}
	background.Go(func() { w.succeed(ctx, advert) })
	advertised := make(chan struct{})
	go func() {
		defer close(advertised)
		advert.keep(inner, ctx.Done())
	}()
	for ctx.Err() == nil {
		w.begin(inner, &running)
		select {
		case <-ctx.Done():
		case <-w.bell:
		}
	}
	w.drain(&running, stop)
	<-advertised
	advert.withdraw(context.WithoutCancel(ctx))
	return ctx.Err()
}

// Changed tells that the plugins, or the lease, are others now. It does not
// block. They are looked at every second anyhow.
func (w *Worker) Changed() { ring(w.changed) }

// Running returns how many tasks this process runs.
func (w *Worker) Running() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.runs)
}

// receive takes over what has changed in the inbox and among the claims.
func (w *Worker) receive(v etcdkv.View) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, key := range v.Changed {
		value, there := v.Values[key]
		switch {
		case key == w.keys.worker(w.cfg.AgentID):
			w.receiveWorker(key, value, there)
		case strings.HasPrefix(key, w.keys.inboxes(w.cfg.AgentID)):
			w.receiveInbox(strings.TrimPrefix(key, w.keys.inboxes(w.cfg.AgentID)), value, there)
		default:
			if id, ok := below(w.keys.claims(w.cfg.AgentID), key); ok {
				w.receiveClaim(id, key, value, there)
			}
		}
	}
	ring(w.bell)
}

func (w *Worker) receiveWorker(key string, value etcdkv.Value, there bool) {
	if there && value.ModRevision < w.key {
		return // of before this process wrote it
	}
	info, err := readWorker(w.keys.workers(), key, value.Data)
	w.missing = !there
	w.theirs = there && err == nil && info.Instance != w.cfg.Instance
	ring(w.changed)
}

func (w *Worker) receiveInbox(name string, value etcdkv.Value, there bool) {
	id, isCancel := strings.CutSuffix(name, cancelSuffix)
	if !validTaskID(id) {
		return
	}
	e := w.entry(id)
	switch {
	case isCancel:
		e.cancelled = there
	case there:
		*e = entry{id: id, revision: value.ModRevision, data: value.Data, cancelled: e.cancelled, claimedBy: e.claimedBy, claimed: e.claimed}
	default:
		e.revision, e.data, e.settled = 0, nil, false
	}
	if r := w.runs[id]; r != nil {
		switch {
		case e.revision != r.revision:
			r.cut(errWithdrawn)
		case e.cancelled:
			r.cut(errCancelled)
		}
	}
	w.tidy(e)
}

func (w *Worker) receiveClaim(id, key string, value etcdkv.Value, there bool) {
	e := w.entry(id)
	e.claimedBy, e.claimed = "", 0
	if there {
		e.claimed = value.ModRevision
		var c claim
		// One that cannot be read is nobody's who lives: this process's claims can.
		if err := decode(key, value.Data, &c); err == nil {
			e.claimedBy = c.Instance
		}
	}
	w.tidy(e)
}

// entry returns what is known of an assignment, which may be new.
func (w *Worker) entry(id string) *entry {
	e := w.entries[id]
	if e == nil {
		e = &entry{id: id}
		w.entries[id] = e
	}
	return e
}

// tidy forgets an assignment of which nothing is left.
func (w *Worker) tidy(e *entry) {
	if e.revision == 0 && e.claimed == 0 && !e.cancelled {
		delete(w.entries, e.id)
	}
}

// begin begins as many runs as there is room for, the oldest assignment first:
// none waits for ever behind others that are more urgent.
func (w *Worker) begin(ctx context.Context, running *sync.WaitGroup) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.key == 0 || w.theirs || w.missing {
		return // etcd would refuse
	}
	free := w.cfg.Concurrency - len(w.runs)
	var next []*entry
	for id, e := range w.entries {
		switch {
		case e.revision == 0 || e.settled || w.runs[id] != nil:
		case e.claimed == 0 || !w.elsewhere(e.claimedBy):
			next = append(next, e)
		default:
			free-- // another process runs it
		}
	}
	slices.SortFunc(next, func(a, b *entry) int { return cmp.Compare(a.revision, b.revision) })
	for _, e := range next {
		if free <= 0 {
			return
		}
		free--
		r := newRun(w, e)
		w.runs[e.id] = r
		w.cfg.Metrics.running.Inc()
		running.Go(func() {
			retry := r.perform(ctx)
			w.ended(ctx, r, retry)
		})
	}
}

// elsewhere reports whether a claim is of another process, which runs it.
func (w *Worker) elsewhere(instance string) bool {
	return instance != "" && instance != w.cfg.Instance && !w.dead[instance]
}

// ended removes a run. One that etcd refused is looked at again.
func (w *Worker) ended(ctx context.Context, r *run, retry bool) {
	if retry {
		_ = backoff.Sleep(ctx, backoff.Jitter(refusedWait, 0.3))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.runs, r.id)
	w.cfg.Metrics.running.Dec()
	if e := w.entries[r.id]; e != nil && e.revision == r.revision && !retry {
		e.settled = true
	}
	ring(w.bell)
}

// succeed learns, once the processes before this one have ended, which they
// were.
func (w *Worker) succeed(ctx context.Context, a *advert) {
	select {
	case <-ctx.Done():
		return
	case <-w.cfg.Predecessor:
	}
	told := false
	for retry := (backoff.Backoff{Min: 50 * time.Millisecond, Max: 5 * time.Second}); ; {
		err := w.inherit(ctx, a)
		if err == nil {
			return
		}
		if !told && ctx.Err() == nil && !errors.Is(err, errRefused) && !errors.Is(err, errNoLease) {
			told = true
			w.cfg.Logger.Warn("the worker cannot see what was begun before it", "error", err)
		}
		if retry.Wait(ctx) != nil {
			return
		}
	}
}

// inherit takes for dead who has claimed anything up to now. Nobody of before
// can claim more once the key is this process's; what a successor claims later
// is its own.
func (w *Worker) inherit(ctx context.Context, a *advert) error {
	if !a.forced {
		if err := a.write(ctx, true); err != nil {
			return err
		}
		// Not again: a successor may have written it since.
		a.forced = true
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := w.cfg.Client.Get(ctx, w.keys.claims(w.cfg.AgentID), clientv3.WithPrefix())
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, kv := range r.Kvs {
		var c claim
		if decode(string(kv.Key), kv.Value, &c) == nil && c.Instance != w.cfg.Instance {
			w.dead[c.Instance] = true
		}
	}
	ring(w.bell)
	return nil
}

// drain waits for what runs, gives back what does not end in time, and stops the
// rest in the end.
func (w *Worker) drain(running *sync.WaitGroup, stop func()) {
	w.mu.Lock()
	for _, r := range w.runs {
		r.drain()
	}
	w.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		running.Wait()
	}()
	within := func(d time.Duration) bool {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-done:
			return true
		case <-timer.C:
			return false
		}
	}
	if !within(w.cfg.DrainTimeout) {
		w.mu.Lock()
		for _, r := range w.runs {
			r.cut(errReleased)
		}
		w.mu.Unlock()
		if !within(settleTimeout) {
			w.cfg.Logger.Warn("tasks could not be given back: their agent's lease has to end first", "count", w.Running())
		}
	}
	stop()
	<-done
}
