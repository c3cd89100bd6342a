package dispatch

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/failpoint"
)

// fold takes over how runs ended.
func (t *term) fold(ctx context.Context) error {
	var moves []move
	var stale []*told
	for _, o := range t.model.outcomes {
		k := t.model.tasks[o.id]
		switch {
		case k == nil:
			stale = append(stale, o)
		case !k.whole():
		case k.record.State != Assigned || k.record.Agent != o.agent || o.outcome.Attempt != 0 && o.outcome.Attempt != k.record.Attempt:
			stale = append(stale, o)
		default:
			m, err := t.moveTo(k, k.record.ended(k.spec, o.outcome))
			if err != nil {
				return err
			}
			key := t.keys.outcome(o.agent, o.id)
			m.unchanged(key, o.revision)
			t.clear(&m)
			m.remove(key)
			m.folds = o
			moves = append(moves, m)
		}
	}
	if err := t.discard(ctx, stale); err != nil || len(moves) == 0 {
		return err
	}
	if err := failpoint.Hit("dispatch-fold"); err != nil {
		return err
	}
	if err := t.perform(ctx, moves); err != nil {
		return err
	}
	return failpoint.Hit("dispatch-folded")
}

// discard deletes outcomes of what is no assignment: nobody but somebody who
// made them up leaves such.
func (t *term) discard(ctx context.Context, stale []*told) error {
	changes := make([]change, len(stale))
	for i, o := range stale {
		c := &changes[i]
		if k := t.model.tasks[o.id]; k == nil {
			c.absent(t.keys.state(o.id))
		} else {
			c.unchanged(t.keys.state(o.id), k.revision)
		}
		c.unchanged(t.keys.outcome(o.agent, o.id), o.revision)
		c.remove(t.keys.outcome(o.agent, o.id))
	}
	var refused []string
	for i, v := range t.commit(ctx, changes) {
		o := stale[i]
		switch {
		case v.err == nil:
			t.cfg.Logger.Warn("an agent told the end of a task that it had not been given", "peer", o.agent, "task", o.id)
			delete(t.model.outcomes, o.agent+"/"+o.id)
		case errors.Is(v.err, errRefused):
			refused = append(refused, o.id)
		default:
			return v.err
		}
	}
	return t.reread(ctx, refused)
}

// withdraw takes tasks back from agents that are lost, or that say nothing long
// after a deadline.
func (t *term) withdraw(ctx context.Context) error {
	var back []*task
	reasons := map[string]string{}
	at := now()
	for id, a := range t.model.agents {
		for _, k := range a.tasks {
			switch by := k.cutBy(); {
			case a.left:
				reasons[k.id] = fmt.Sprintf("agent %s is away from etcd", id)
			case !by.IsZero() && at.After(by):
				reasons[k.id] = fmt.Sprintf("agent %s did not cut it off at its deadline", id)
			default:
				continue
			}
			back = append(back, k)
		}
	}
	const most = maxOps / 2
	for len(back) > 0 {
		n := min(len(back), most)
		if err := t.takeBack(ctx, back[:n], reasons); err != nil {
			return err
		}
		back = back[n:]
	}
	return nil
}

// takeBack takes tasks back, and looks where their next runs can go on. What an
// agent writes meanwhile, other than an outcome, is deleted with the rest.
func (t *term) takeBack(ctx context.Context, back []*task, reasons map[string]string) error {
	var ops []clientv3.Op
	for _, k := range back {
		agent := k.record.Agent
		ops = append(ops, clientv3.OpGet(t.keys.claim(agent, k.id), clientv3.WithCountOnly()),
			lastResult(t.keys.results(agent, k.id)))
	}
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	r, err := t.client.Txn(limited).Then(ops...).Commit()
	cancel()
	if err != nil {
		return fmt.Errorf("read what agents left: %w", err)
	}
	var moves []move
	for i, k := range back {
		begun := r.Responses[2*i].GetResponseRange().GetCount() > 0
		from, err := lastPoint(t.keys.results(k.record.Agent, k.id), k.record.Resume, r.Responses[2*i+1].GetResponseRange().GetKvs())
		if err != nil {
			t.cfg.Logger.Warn("what an agent left of a task cannot be used", "task", k.id, "error", err)
		}
		m, err := t.moveTo(k, k.record.withdrawn(k.spec, begun, from, reasons[k.id]))
		if err != nil {
			return err
		}
		m.absent(t.keys.outcome(k.record.Agent, k.id))
		t.clear(&m)
		moves = append(moves, m)
		t.cfg.Logger.Info("a task is taken back", "task", k.id, "reason", reasons[k.id])
	}
	return t.perform(ctx, moves)
}

// lastPoint is where the run after the one that yielded last, below prefix, can
// go on. It is where that one began if the error says that it cannot be read.
func lastPoint(prefix string, began resume, last []*mvccpb.KeyValue) (resume, error) {
	for _, kv := range last {
		one, err := readResult(prefix, "", kv)
		if err == nil && one.Number <= began.Number {
			continue // of a run before
		}
		var v resultValue
		if err == nil {
			err = decode(string(kv.Key), kv.Value, &v)
		}
		if err == nil && v.Resume.Number > one.Number {
			err = fmt.Errorf("%s: resumes at %d, after itself", kv.Key, v.Resume.Number)
		}
		if err != nil {
			return began, err
		}
		return v.Resume, nil
	}
	return began, nil
}

// lastResult asks for the last result below prefix.
func lastResult(prefix string) clientv3.Op {
	return clientv3.OpGet(prefix, clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend), clientv3.WithLimit(1))
}

// end ends what is not to run: what is too late, and what was cancelled.
func (t *term) end(ctx context.Context) error {
	var moves []move
	add := func(k *task, next *record) error {
		m, err := t.moveTo(k, next)
		moves = append(moves, m)
		return err
	}
	for _, k := range t.model.queued {
		if k.spec.late() {
			if err := add(k, k.record.end(k.spec, Expired, "its deadline passed before it could begin")); err != nil {
				return err
			}
		}
	}
	var tell []*task
	for _, a := range t.model.agents {
		for _, k := range a.tasks {
			switch {
			case k.record.Cancel == nil || k.cancelTold:
			case k.refused == k.revision: // it has begun
				tell = append(tell, k)
			default:
				if err := add(k, k.record.end(k.spec, Cancelled, "cancelled before it began")); err != nil {
					return err
				}
				m := &moves[len(moves)-1]
				m.absent(t.keys.claim(a.id, k.id))
				m.absent(t.keys.outcome(a.id, k.id))
				t.clear(m)
			}
		}
	}
	if err := t.perform(ctx, moves); err != nil {
		return err
	}
	return t.tellCancelled(ctx, tell)
}

// tellCancelled tells agents to cut off what they run.
func (t *term) tellCancelled(ctx context.Context, tell []*task) error {
	changes := make([]change, len(tell))
	value, err := encode(cancelValue{schema})
	if err != nil {
		return err
	}
	for i, k := range tell {
		changes[i].unchanged(t.keys.state(k.id), k.revision)
		changes[i].put(t.keys.inbox(k.record.Agent, k.id)+cancelSuffix, value)
	}
	var refused []string
	for i, v := range t.commit(ctx, changes) {
		switch {
		case v.err == nil:
			tell[i].cancelTold = true
		case errors.Is(v.err, errRefused):
			refused = append(refused, tell[i].id)
		default:
			return v.err
		}
	}
	return t.reread(ctx, refused)
}
