package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/plugin"
)

// Why a run is cut off.
var (
	errCancelled = errors.New("cancelled")
	errWithdrawn = errors.New("given to another agent")
	errReleased  = errors.New("its agent's process was to end")
	errLate      = errors.New("its deadline passed while it ran")
	errTimeout   = errors.New("it took longer than its timeout")
)

const (
	// patience is how long a run waits for a plugin that is not running now.
	patience = 30 * time.Second
	// maxInterruptions is how often in a row a plugin may end under a run that
	// has made no progress.
	maxInterruptions = 3
)

// run is one assignment on its way.
type run struct {
	worker   *Worker
	id       string
	revision int64  // of the assignment
	data     []byte // of the assignment
	before   int64  // revision of a dead process's claim; 0 = none

	assignment assignment
	claimed    int64 // revision of the own claim
	started    time.Time
	last       resume // of what was written
	from       resume // where another run can go on

	ctx context.Context // of the plugin's work
	end context.CancelCauseFunc

	leaving chan struct{} // closed once its process is to end
	broken  int           // calls of the plugin that were interrupted
}

func newRun(w *Worker, e *entry) *run {
	r := &run{worker: w, id: e.id, revision: e.revision, data: e.data, before: e.claimed, leaving: make(chan struct{})}
	r.ctx, r.end = context.WithCancelCause(context.Background())
	if e.cancelled {
		r.end(errCancelled)
	}
	return r
}

// cut ends the plugin's work; the first reason counts.
func (r *run) cut(why error) { r.end(why) }

// drain gives back at once what goes on elsewhere, and has what is interrupted
// from now on given back too: its plugin may be another process's by now. It is
// called once, with the worker's lock.
func (r *run) drain() {
	close(r.leaving)
	var a assignment
	if decode(r.id, r.data, &a) == nil && a.Resumable {
		r.cut(errReleased)
	}
}

// perform claims, runs and acknowledges. It reports whether to look at the
// assignment again. ctx ends when nothing more can be written.
func (r *run) perform(ctx context.Context) (again bool) {
	defer r.end(nil)
	defer context.AfterFunc(ctx, func() { r.end(ctx.Err()) })()
	log := r.worker.cfg.Logger.With("task", r.id)
	unreadable := decode(r.worker.keys.inbox(r.worker.cfg.AgentID, r.id), r.data, &r.assignment)
	if err := r.claim(ctx); err != nil {
		if errors.Is(err, errRefused) {
			settled, err := r.settled(ctx)
			return err != nil || !settled
		}
		log.Debug("task not claimed", "error", err)
		return true
	}
	if failpoint.Hit("dispatch-claimed") != nil {
		return true
	}
	ended, err := endFailed, unreadable
	span := r.trace()
	defer func() { r.endTrace(span, ended, err) }()
	if unreadable == nil {
		if err = r.begin(ctx); err != nil {
			log.Debug("task not begun", "error", err)
			return true
		}
		ended, err = r.execute(ctx)
	}
	r.worker.cfg.Metrics.count(ended, r.started)
	if ended == "" {
		log.Info("a task was withdrawn while it ran", "error", err)
		return false
	}
	if err := failpoint.Hit("dispatch-run"); err != nil {
		return true
	}
	return r.acknowledge(ctx, ended, err)
}

// fence compares that the assignment is still this process's.
func (r *run) fence() (c change) {
	w := r.worker
	c.unchanged(w.keys.inbox(w.cfg.AgentID, r.id), r.revision)
	c.unchanged(w.keys.claim(w.cfg.AgentID, r.id), r.claimed)
	return c
}

// claim makes the assignment this process's, if its agent lives as etcd sees it
// and this is the process that works there.
func (r *run) claim(ctx context.Context) error {
	w := r.worker
	agent := w.cfg.AgentID
	w.mu.Lock()
	key := w.key
	w.mu.Unlock()
	r.started = now()
	value, err := encode(claim{schema, w.cfg.Instance, r.started})
	if err != nil {
		return err
	}
	var c change
	c.unchanged(w.keys.inbox(agent, r.id), r.revision)
	c.unchanged(w.keys.claim(agent, r.id), r.before)
	c.absent(w.keys.outcome(agent, r.id))
	c.unchanged(w.keys.worker(agent), key)
	c.put(w.keys.claim(agent, r.id), value)
	r.claimed, err = w.pool.do(ctx, c)
	if err == nil || errors.Is(err, errRefused) {
		return err
	}
	// Perhaps it was done, and nobody else can do it then.
	return r.reclaim(ctx, value, err)
}

// reclaim finds out what became of a claim that was not answered.
func (r *run) reclaim(ctx context.Context, value string, unanswered error) error {
	w := r.worker
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	found, err := w.cfg.Client.Get(limited, w.keys.claim(w.cfg.AgentID, r.id))
	if err != nil {
		return errors.Join(unanswered, err)
	}
	for _, kv := range found.Kvs {
		if string(kv.Value) == value {
			r.claimed = kv.ModRevision
			return nil
		}
	}
	return unanswered
}

// settled reports whether the assignment has ended.
func (r *run) settled(ctx context.Context) (bool, error) {
	w := r.worker
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	agent := w.cfg.AgentID
	got, err := w.cfg.Client.Txn(limited).Then(
		clientv3.OpGet(w.keys.inbox(agent, r.id), clientv3.WithKeysOnly()),
		clientv3.OpGet(w.keys.outcome(agent, r.id), clientv3.WithKeysOnly())).Commit()
	if err != nil {
		return false, err
	}
	inbox, end := got.Responses[0].GetResponseRange().GetKvs(), got.Responses[1].GetResponseRange().GetKvs()
	return len(inbox) == 0 || inbox[0].ModRevision != r.revision || len(end) > 0, nil
}

// begin finds out where the run begins. What a dead process has begun goes on
// from its last point, and the results that come again are deleted: there may
// be fewer this time.
func (r *run) begin(ctx context.Context) error {
	r.last, r.from = r.assignment.Resume, r.assignment.Resume
	if r.before == 0 {
		return nil
	}
	w := r.worker
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	prefix := w.keys.results(w.cfg.AgentID, r.id)
	got, err := w.cfg.Client.Do(limited, lastResult(prefix))
	if err != nil {
		return err
	}
	if r.from, err = lastPoint(prefix, r.from, got.Get().Kvs); err != nil {
		w.cfg.Logger.Warn("what was left of a task cannot be used", "task", r.id, "error", err)
	}
	return r.rewind(ctx)
}

// acknowledge writes how the run ended, until that is known to be done, or to
// be of no use any more.
func (r *run) acknowledge(ctx context.Context, ended string, why error) (again bool) {
	w := r.worker
	o := outcome{
		Schema: schema, Attempt: r.assignment.Attempt, Instance: w.cfg.Instance, Ended: ended,
		Started: r.started, Finished: now(), Last: r.last, Resume: r.from,
	}
	if why != nil {
		o.Error = clip(why.Error())
	}
	value, err := encode(o)
	if err != nil {
		return false
	}
	c := r.fence()
	c.absent(w.keys.outcome(w.cfg.AgentID, r.id))
	c.put(w.keys.outcome(w.cfg.AgentID, r.id), value)
	retry := backoff.Backoff{Max: 2 * time.Second}
	for {
		switch _, err := w.pool.do(ctx, c); {
		case err == nil:
			_ = failpoint.Hit("dispatch-acknowledged") // nothing follows
			return false
		case errors.Is(err, errRefused):
			// It was withdrawn, or an answer was lost.
			return false
		case retry.Wait(ctx) != nil:
			return false
		}
	}
}

// execute has plugins work until the run has ended, and says how: "" is that
// nothing is to be said about it.
func (r *run) execute(ctx context.Context) (ended string, why error) {
	work := r.ctx
	if !r.assignment.Deadline.IsZero() {
		var cancel context.CancelFunc
		work, cancel = context.WithDeadlineCause(work, r.assignment.Deadline, errLate)
		defer cancel()
	}
	if r.assignment.Timeout > 0 {
		var cancel context.CancelFunc
		work, cancel = context.WithTimeoutCause(work, r.assignment.Timeout, errTimeout)
		defer cancel()
	}
	retry := backoff.Backoff{Max: 2 * time.Second}
	absent, interruptions := time.Time{}, 0
	for {
		at := r.from
		err := r.call(ctx, work)
		switch {
		case err == nil:
			return endSucceeded, nil
		case work.Err() != nil:
			return ending(context.Cause(work))
		case errors.Is(err, errRefused):
			return "", errWithdrawn
		case errors.Is(err, plugin.ErrPermanent):
			return endPermanent, err
		case errors.Is(err, plugin.ErrInterrupted):
			absent = time.Time{}
			r.broken++
			if interruptions++; r.from != at {
				interruptions = 1
			}
			if interruptions > maxInterruptions {
				return endFailed, fmt.Errorf("it was interrupted %d times in a row: %w", interruptions, err)
			}
			if err := r.rewind(ctx); err != nil {
				return "", err
			}
		case errors.Is(err, plugin.ErrNotRunning), errors.Is(err, plugin.ErrNotFound):
			if absent.IsZero() {
				absent = time.Now()
			}
			if time.Since(absent) > patience {
				return endReleased, err
			}
		default:
			return endFailed, err
		}
		select {
		case <-r.leaving:
			return endReleased, err
		case <-work.Done(): // the next call sees it
		case <-time.After(retry.Next()):
		}
	}
}

// ending says what is said of a run that was cut off.
func ending(why error) (string, error) {
	switch {
	case errors.Is(why, errCancelled):
		return endCancelled, why
	case errors.Is(why, errLate):
		return endExpired, why
	case errors.Is(why, errTimeout):
		return endFailed, why
	case errors.Is(why, errReleased):
		return endReleased, why
	}
	return "", why
}

// call has the plugin work from the last point on.
func (r *run) call(ctx, work context.Context) error {
	if err := work.Err(); err != nil {
		return err
	}
	a := &r.assignment
	constraint, err := parseConstraint(a.Version)
	if err != nil {
		return err
	}
	wanted := demand{plugin: a.Plugin, capability: a.Capability, version: a.Version, constraint: constraint}
	p := wanted.among(r.worker.info().Plugins)
	if p == nil {
		return fmt.Errorf("%w: no plugin here can take it", plugin.ErrNotRunning)
	}
	capability := a.Capability
	if capability == "" {
		capability = p.Capabilities[0]
	}
	out := newOutput(r, work)
	var writing sync.WaitGroup
	writing.Go(func() { out.write(ctx) })
	err = r.worker.cfg.Plugins.Execute(work, p.Name, plugin.Task{
		ID: r.id, Capability: capability, Payload: a.Payload, Cursor: r.from.Cursor,
		Attempt: r.begun(), IdempotencyKey: a.IdempotencyKey, Resumable: a.Resumable,
	}, out.take)
	out.end()
	writing.Wait()
	if out.failed != nil {
		return out.failed
	}
	r.from, r.last = out.from, out.last
	return err
}

// begun is how often the task may have been begun before, as a plugin is told.
// It is more than the assignments before this one: under the same one a plugin
// is called again after an interruption, or by the process after a dead one.
func (r *run) begun() int {
	n := r.assignment.Attempt - 1 + r.broken
	if r.before != 0 {
		n++
	}
	return n
}

// rewind deletes the results that come again.
func (r *run) rewind(ctx context.Context) error {
	w := r.worker
	c := r.fence()
	c.remove(w.keys.result(w.cfg.AgentID, r.id, r.from.Number+1), clientv3.WithRange(clientv3.GetPrefixRangeEnd(w.keys.results(w.cfg.AgentID, r.id))))
	retry := backoff.Backoff{Max: 2 * time.Second}
	for {
		_, err := w.pool.do(ctx, c)
		if err == nil {
			r.last = r.from
			return nil
		}
		if errors.Is(err, errRefused) || retry.Wait(ctx) != nil {
			return err
		}
	}
}
