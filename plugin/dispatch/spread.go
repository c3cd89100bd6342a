package dispatch

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/failpoint"
)

// spreadStep is how many runs of a task are created before it is written how
// far that came.
const spreadStep = 500

// spread makes tasks for all agents into their runs, and ends those whose runs
// have ended.
func (t *term) spread(ctx context.Context) error {
	for _, k := range t.model.tasks {
		if !k.whole() || k.record.State != Spread {
			continue
		}
		var err error
		stopped := k.record.Cancel != nil || k.spec.late()
		switch {
		case k.record.Created < k.record.Total && !stopped:
			err = t.createRuns(ctx, k)
		case len(t.model.children[k.id]) == 0:
			err = t.endSpread(ctx, k)
		case k.record.Cancel != nil:
			err = t.cancelRuns(ctx, k)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// createRuns creates some more runs of a task. One that exists was created by
// this dispatcher or one before, which did not come to write it down.
func (t *term) createRuns(ctx context.Context, parent *task) error {
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	r, err := t.client.Get(limited, t.keys.targets(parent.id))
	cancel()
	if err != nil {
		return fmt.Errorf("agents of task %s: %w", parent.id, err)
	}
	var to targets
	if len(r.Kvs) > 0 {
		err = decode(t.keys.targets(parent.id), r.Kvs[0].Value, &to)
	}
	if err != nil || len(to.Agents) != parent.record.Total {
		t.cfg.Logger.Warn("a task for all agents cannot be spread", "task", parent.id, "count", len(to.Agents), "total", parent.record.Total, "error", err)
		return t.finish(ctx, parent, parent.record.end(parent.spec, Dead, "the list of its agents cannot be read"))
	}
	from := parent.record.Created
	until := min(from+spreadStep, parent.record.Total)
	var runs []*task
	var changes []change
	for i := from; i < until; i++ {
		k, c, err := t.newRun(parent, i, to.Agents[i])
		if err != nil {
			return err
		}
		runs, changes = append(runs, k), append(changes, c)
	}
	var refused []string
	for i, v := range t.commit(ctx, changes) {
		switch {
		case v.err == nil:
			runs[i].created = v.revision
			t.model.set(runs[i], runs[i].record, v.revision)
		case errors.Is(v.err, errRefused):
			refused = append(refused, runs[i].id)
		default:
			return v.err
		}
	}
	if err := t.reread(ctx, refused); err != nil {
		return err
	}
	if err := failpoint.Hit("dispatch-spread"); err != nil {
		return err
	}
	next := *parent.record
	next.Created = until
	ring(t.bell)
	return t.finish(ctx, parent, &next)
}

// newRun is run number i of a task, for an agent.
func (t *term) newRun(parent *task, i int, agent string) (k *task, c change, err error) {
	s := *parent.spec
	s.ID, s.Parent, s.Pinned, s.Policy, s.IdempotencyKey = runID(parent.id, i), parent.id, agent, Any, runKey(parent.spec, agent)
	r := &record{Schema: schema, State: Queued, Since: now()}
	c.absent(t.keys.spec(s.ID))
	err = c.create(t.keys, &s, r)
	return &task{id: s.ID, spec: &s, record: r}, c, err
}

// finish performs a single move.
func (t *term) finish(ctx context.Context, k *task, next *record) error {
	m, err := t.moveTo(k, next)
	if err != nil {
		return err
	}
	return t.perform(ctx, []move{m})
}

// cancelRuns passes a request to cancel on to the runs.
func (t *term) cancelRuns(ctx context.Context, parent *task) error {
	var moves []move
	for _, k := range t.model.children[parent.id] {
		if !k.whole() || k.record.Cancel != nil {
			continue
		}
		next := *k.record
		next.Cancel = parent.record.Cancel
		if next.State == Queued {
			next = *next.end(k.spec, Cancelled, "cancelled before it began")
		}
		m, err := t.moveTo(k, &next)
		if err != nil {
			return err
		}
		moves = append(moves, m)
	}
	if len(moves) > 0 {
		ring(t.bell)
	}
	return t.perform(ctx, moves)
}

// endSpread ends a task whose runs have all ended. Those that were not created
// any more share the fate of their task.
func (t *term) endSpread(ctx context.Context, parent *task) error {
	runs := Runs{Total: parent.record.Total}
	prefix := t.keys.done(parent.id + ".")
	count := func(kvs []*mvccpb.KeyValue) {
		for _, kv := range kvs {
			var r record
			if err := decode(string(kv.Key), kv.Value, &r); err != nil {
				r.State = Dead
			}
			switch r.State {
			case Succeeded:
				runs.Succeeded++
			case Cancelled:
				runs.Cancelled++
			case Expired:
				runs.Expired++
			default:
				runs.Dead++
			}
		}
	}
	for from, more := prefix, true; more; {
		limited, cancel := context.WithTimeout(ctx, callTimeout)
		r, err := t.client.Get(limited, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)), clientv3.WithLimit(pageSize))
		cancel()
		if err != nil {
			return fmt.Errorf("runs of task %s: %w", parent.id, err)
		}
		count(r.Kvs)
		if more = r.More && len(r.Kvs) > 0; more {
			from = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
		}
	}
	missing := runs.Total - runs.Succeeded - runs.Dead - runs.Cancelled - runs.Expired
	state := Succeeded
	switch {
	case parent.record.Cancel != nil:
		state = Cancelled
		runs.Cancelled += missing
	case parent.spec.late() && (missing > 0 || runs.Expired > 0):
		state = Expired
		runs.Expired += missing
	case runs.Succeeded < runs.Total:
		// Runs that are missing were forgotten by somebody before this end.
		state = Dead
	}
	why := ""
	if state != Succeeded {
		why = fmt.Sprintf("%d of %d runs succeeded", runs.Succeeded, runs.Total)
	}
	next := parent.record.end(parent.spec, state, why)
	next.Runs = &runs
	m, err := t.moveTo(parent, next)
	if err != nil {
		return err
	}
	m.remove(t.keys.targets(parent.id))
	return t.perform(ctx, []move{m})
}

// runKey is the idempotency key of a run for an agent: the runs of a task are
// pieces of work of their own.
func runKey(s *spec, agent string) string {
	if s.IdempotencyKey == "" {
		return ""
	}
	key := s.IdempotencyKey + "/" + agent
	return strings.ToValidUTF8(key[:min(len(key), MaxText)], "")
}
