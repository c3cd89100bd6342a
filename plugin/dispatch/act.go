package dispatch

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// actTries bounds how often an action is tried whose task changes meanwhile.
const actTries = 10

// Cancel asks for the end of a task, on behalf of by: at once where it is
// queued, else as soon as its agent hears. The runs of a task for all agents are
// cancelled with it. Errors: ErrNotFound, ErrFinished, ErrInvalid of what is
// said in by.
func (q *Queue) Cancel(ctx context.Context, id, by string) error {
	if err := checkText("cancelled by", by); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return q.act(ctx, id, func(t *stored) (*record, error) {
		r := *t.record
		if r.State.Finished() {
			return nil, fmt.Errorf("%w: %s ended as %s", ErrFinished, id, r.State)
		}
		if r.Cancel != nil {
			return nil, nil //nolint:nilnil // it is asked for already
		}
		r.Cancel = &cancel{by, now()}
		if r.State == Queued {
			return r.end(t.spec, Cancelled, "cancelled before it began"), nil
		}
		return &r, nil
	})
}

// Retry puts a dead or cancelled task back into the queue with all its tries. It
// goes on from its last cursor. Errors: ErrNotFound; ErrFinished where it has
// succeeded or its deadline has passed; ErrNotFinished; ErrInvalid of a task for
// all agents: retry its runs.
func (q *Queue) Retry(ctx context.Context, id string) error {
	return q.act(ctx, id, func(t *stored) (*record, error) {
		r := *t.record
		switch {
		case r.Total > 0:
			return nil, fmt.Errorf("%w: %s is for all agents: retry those of its runs that are dead", ErrInvalid, id)
		case !r.State.Finished():
			return nil, fmt.Errorf("%w: %s is %s", ErrNotFinished, id, r.State)
		case !r.State.mayBecome(Queued):
			return nil, fmt.Errorf("%w: %s ended as %s", ErrFinished, id, r.State)
		case !t.spec.Deadline.IsZero() && !time.Now().Before(t.spec.Deadline):
			return nil, fmt.Errorf("%w: the deadline of %s passed at %s: submit it anew", ErrFinished, id, t.spec.Deadline.Format(time.RFC3339))
		}
		r.State, r.Since = Queued, now()
		r.Failures, r.Losses, r.Cancel, r.Error = 0, 0, nil, ""
		r.Next, r.Finished, r.Expires, r.Last = time.Time{}, time.Time{}, time.Time{}, resume{}
		return &r, nil
	})
}

// Forget deletes a finished task and its results now instead of after their
// TTL. Errors: ErrNotFound, ErrNotFinished.
func (q *Queue) Forget(ctx context.Context, id string) error {
	if !validTaskID(id) {
		return fmt.Errorf("%w: %.80q", ErrNotFound, id)
	}
	t, err := q.read(ctx, id)
	switch {
	case err != nil:
		return err
	case !t.record.State.Finished():
		return fmt.Errorf("%w: %s is %s: cancel it first", ErrNotFinished, id, t.record.State)
	}
	done, err := q.commit(ctx, q.keys.collection(t.spec, t.record, t.revision))
	if err == nil && !done {
		err = errRefused
	}
	if err != nil {
		return fmt.Errorf("task %s: %w", id, err)
	}
	return nil
}

// act writes what next makes of a task, and tries again where it changed
// meanwhile. A nil record is nothing to write.
func (q *Queue) act(ctx context.Context, id string, next func(*stored) (*record, error)) error {
	if !validTaskID(id) {
		return fmt.Errorf("%w: %.80q", ErrNotFound, id)
	}
	for range actTries {
		t, err := q.read(ctx, id)
		if err != nil {
			return err
		}
		r, err := next(&t)
		if err != nil || r == nil {
			return err
		}
		c, err := q.keys.move(id, t.record, r, t.revision)
		if err != nil {
			return err
		}
		if was := t.record.State; was.Finished() && !r.State.Finished() {
			c.dropTail(q.keys, id, r)
		}
		switch done, err := q.commit(ctx, c); {
		case err != nil:
			return fmt.Errorf("task %s: %w", id, err)
		case done:
			return nil
		}
	}
	return fmt.Errorf("task %s changes all the time: try again", id)
}

func (q *Queue) commit(ctx context.Context, c change) (bool, error) {
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := q.client.Txn(limited).If(c.compare...).Then(c.ops...).Commit()
	return err == nil && r.Succeeded, err
}

// move is the change from one record of a task to the next. It compares that
// the one before is still there, and moves the task between those that are
// finished and those that are not.
func (k keys) move(id string, was, next *record, revision int64) (change, error) {
	var c change
	if was.State != next.State && !was.State.mayBecome(next.State) {
		return c, fmt.Errorf("task %s: %s cannot become %s", id, was.State, next.State)
	}
	value, err := encode(next)
	if err != nil {
		return c, err
	}
	from, to := k.place(id, was), k.place(id, next)
	c.unchanged(from, revision)
	c.put(to, value)
	if from != to {
		c.remove(from)
	}
	return c, nil
}

// place is the key of a task's record.
func (k keys) place(id string, r *record) string {
	if r.State.Finished() {
		return k.done(id)
	}
	return k.state(id)
}

// dropTail deletes the results of the last run that come again when the task
// goes on from where r says.
func (c *change) dropTail(k keys, id string, r *record) {
	if r.Agent != "" {
		c.remove(k.result(r.Agent, id, r.Resume.Number+1), clientv3.WithRange(clientv3.GetPrefixRangeEnd(k.results(r.Agent, id))))
	}
}
