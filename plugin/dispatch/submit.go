package dispatch

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/internal/tracing"
)

// countEvery is how old the number of open tasks may be that Submit goes by.
const countEvery = time.Second

// submitTries bounds how often Submit asks an etcd that does not answer.
const submitTries = 4

// Submit puts a task into the queue. Once it returns nil the task is durable.
//
// Errors: ErrInvalid; ErrQueueFull; ErrNoAgent, of policy All; ErrConflict,
// where another task has its id or idempotency key; anything else is etcd's,
// and then the task may be in the queue all the same: with an ID or an
// IdempotencyKey it can be submitted again without harm.
//
// The task and its runs are part of the trace of ctx.
func (q *Queue) Submit(ctx context.Context, t Task) (done Submitted, err error) {
	ctx, span := q.tracer.Start(ctx, SpanSubmit, trace.SpanKindProducer)
	defer func() { span.End(err) }()
	t, err = t.normal()
	if err != nil {
		return Submitted{}, err
	}
	s := &spec{Schema: schema, Task: t, Submitted: now(), Traceparent: tracing.Text(ctx)}
	if s.Digest, err = t.digest(); err != nil {
		return Submitted{}, err
	}
	if s.ID == "" {
		s.ID = newID(s.Submitted)
	}
	if span.Recording() {
		span.Set(tracedTask(s.ID, s.Plugin, s.Capability)...)
	}
	// The same id: an answer that was lost shows as a task that exists.
	retry := backoff.Backoff{Max: 2 * time.Second}
	for try := 1; ; try++ {
		done, err := q.submit(ctx, s)
		if !unanswered(err) || try == submitTries || retry.Wait(ctx) != nil {
			return done, err
		}
	}
}

// unanswered reports whether a call may or may not have been done.
func unanswered(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	code := status.Code(err)
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		code = e.Code()
	}
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}

// submit writes the task, or finds the one that is there.
func (q *Queue) submit(ctx context.Context, s *spec) (Submitted, error) {
	var c change
	var runs int
	err := q.room(ctx)
	if err == nil {
		c, runs, err = q.creation(ctx, s)
	}
	if err != nil {
		// It may be there already.
		if found, err := q.existing(ctx, s); err == nil {
			return found, nil
		}
		return Submitted{}, err
	}
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := q.client.Txn(limited).If(c.compare...).Then(c.ops...).Commit()
	if err != nil {
		return Submitted{}, fmt.Errorf("submit task: %w", err)
	}
	if !r.Succeeded {
		return q.existing(ctx, s)
	}
	if err := failpoint.Hit("dispatch-submitted"); err != nil {
		return Submitted{}, err
	}
	q.mu.Lock()
	q.open += 1 + int64(runs)
	q.mu.Unlock()
	return Submitted{ID: s.ID, Runs: runs}, nil
}

// creation is the transaction that a task begins with.
func (q *Queue) creation(ctx context.Context, s *spec) (c change, runs int, err error) {
	r := record{Schema: schema, State: Queued, Since: s.Submitted}
	if s.Policy == All {
		agents, err := q.eligible(ctx, s)
		if err != nil {
			return c, 0, err
		}
		value, err := encode(targets{schema, agents})
		if err != nil {
			return c, 0, err
		}
		c.put(q.keys.targets(s.ID), value)
		r.State, r.Total, runs = Spread, len(agents), len(agents)
	}
	if len(s.Payload) > inlinePayload {
		value, err := encode(payloadValue{schema, s.Payload})
		if err != nil {
			return c, 0, err
		}
		c.put(q.keys.payload(s.ID), value)
		apart := *s
		apart.Payload, apart.PayloadBytes, apart.PayloadOf = nil, len(s.Payload), s.ID
		s = &apart
	}
	if s.IdempotencyKey != "" {
		key := q.keys.idempotency(s.IdempotencyKey)
		value, err := encode(pointer{schema, s.ID, s.Digest})
		if err != nil {
			return c, 0, err
		}
		c.absent(key)
		c.put(key, value)
	}
	c.absent(q.keys.spec(s.ID))
	err = c.create(q.keys, s, &r)
	return c, runs, err
}

// create adds a task's own keys.
func (c *change) create(k keys, s *spec, r *record) error {
	value, err := encode(s)
	if err != nil {
		return err
	}
	state, err := encode(r)
	if err != nil {
		return err
	}
	c.put(k.spec(s.ID), value)
	c.put(k.state(s.ID), state)
	return nil
}

// existing returns the task that has s's id or idempotency key, or why it is
// another one.
func (q *Queue) existing(ctx context.Context, s *spec) (Submitted, error) {
	ops := []clientv3.Op{clientv3.OpGet(q.keys.spec(s.ID))}
	if s.IdempotencyKey != "" {
		ops = append(ops, clientv3.OpGet(q.keys.idempotency(s.IdempotencyKey)))
	}
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := q.client.Txn(limited).Then(ops...).Commit()
	if err != nil {
		return Submitted{}, fmt.Errorf("submit task: %w", err)
	}
	found := false
	for i, part := range r.Responses {
		for _, kv := range part.GetResponseRange().GetKvs() {
			var p pointer
			if i == 1 {
				err = decode(string(kv.Key), kv.Value, &p)
			} else {
				var there spec
				err = decode(string(kv.Key), kv.Value, &there)
				p.ID, p.Digest = there.ID, there.Digest
			}
			if err != nil {
				return Submitted{}, err
			}
			if p.Digest != s.Digest {
				return Submitted{}, fmt.Errorf("%w: task %s has the same %s and asks for something else: choose another", ErrConflict, p.ID, [...]string{"id", "idempotency key"}[i])
			}
			s.ID, found = p.ID, true
		}
	}
	if !found {
		return Submitted{}, fmt.Errorf("%w: what was in the way has been collected: submit again", ErrConflict)
	}
	return Submitted{ID: s.ID, Existing: true}, nil
}

// room reports whether there is room for one task more.
func (q *Queue) room(ctx context.Context) error {
	q.mu.Lock()
	fresh := time.Since(q.counted) < countEvery && q.open < q.maxQueued
	q.mu.Unlock()
	if fresh {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	asked := time.Now()
	r, err := q.client.Get(limited, q.keys.states(), clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return fmt.Errorf("submit task: %w", err)
	}
	q.mu.Lock()
	q.counted, q.open = asked, r.Count
	q.mu.Unlock()
	if r.Count >= q.maxQueued {
		return fmt.Errorf("%w: %d tasks are not finished, at most %d may be: submit again later", ErrQueueFull, r.Count, q.maxQueued)
	}
	return nil
}

// eligible returns the agents that can take a task now.
func (q *Queue) eligible(ctx context.Context, s *spec) ([]string, error) {
	workers, err := q.Workers(ctx)
	if err != nil {
		return nil, err
	}
	wanted, err := newDemand(s)
	if err != nil {
		return nil, err
	}
	var agents []string
	for i := range workers {
		if wanted.takes(&workers[i]) {
			agents = append(agents, workers[i].Agent)
		}
	}
	if len(agents) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrNoAgent, wanted.why(workers))
	}
	return agents, nil
}

// newID is of milliseconds and chance, so that ids sort by time.
func newID(at time.Time) string {
	var chance [8]byte
	_, _ = rand.Read(chance[:]) // it never fails
	return fmt.Sprintf("%012x-%s", at.UnixMilli(), hex.EncodeToString(chance[:]))
}

// now is the time as it is written.
func now() time.Time { return time.Now().UTC().Round(time.Millisecond) }
