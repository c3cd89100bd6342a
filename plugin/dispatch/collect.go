package dispatch

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// collectAtLeast is the longest pause between two looks for what is to be
// collected.
const collectAtLeast = 10 * time.Minute

// collectBy has collect look once a time has passed, but not more often than it
// may.
func (t *term) collectBy(expires time.Time) {
	if soonest := t.collected.Add(t.cfg.CollectEvery); expires.Before(soonest) {
		expires = soonest
	}
	if expires.Before(t.collectAt) {
		t.collectAt = expires
	}
}

// collect deletes finished tasks whose time has passed.
func (t *term) collect(ctx context.Context) error {
	at := time.Now()
	if at.Before(t.collectAt) {
		return nil
	}
	prefix := t.keys.dones()
	next := at.Add(collectAtLeast)
	for from, more := prefix, true; more; {
		limited, cancel := context.WithTimeout(ctx, callTimeout)
		r, err := t.client.Get(limited, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)), clientv3.WithLimit(pageSize))
		cancel()
		if err != nil {
			return fmt.Errorf("look for finished tasks: %w", err)
		}
		soonest, err := t.collectPage(ctx, r.Kvs, at)
		if err != nil {
			return err
		}
		if soonest.Before(next) {
			next = soonest
		}
		if more = r.More && len(r.Kvs) > 0; more {
			from = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
		}
	}
	t.collected, t.collectAt = at, at.Add(collectAtLeast)
	t.collectBy(next)
	return nil
}

// collectPage deletes those whose time has passed, and returns when that of the
// next one does.
func (t *term) collectPage(ctx context.Context, dones []*mvccpb.KeyValue, at time.Time) (next time.Time, err error) {
	next = at.Add(collectAtLeast)
	var over []stored
	var ops []clientv3.Op
	for _, kv := range dones {
		id, ok := below(t.keys.dones(), string(kv.Key))
		r := &record{}
		if !ok || decode(string(kv.Key), kv.Value, r) != nil {
			continue // somebody else's, or a newer version's
		}
		if r.Expires.After(at) {
			if r.Expires.Before(next) {
				next = r.Expires
			}
			continue
		}
		over = append(over, stored{record: r, revision: kv.ModRevision})
		ops = append(ops, clientv3.OpGet(t.keys.spec(id)))
	}
	for len(over) > 0 {
		n := min(len(over), maxOps)
		if err := t.collectThese(ctx, over[:n], ops[:n]); err != nil {
			return next, err
		}
		over, ops = over[n:], ops[n:]
	}
	return next, nil
}

func (t *term) collectThese(ctx context.Context, over []stored, ops []clientv3.Op) error {
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := t.client.Txn(limited).Then(ops...).Commit()
	if err != nil {
		return fmt.Errorf("look for finished tasks: %w", err)
	}
	var changes []change
	for i := range over {
		for _, kv := range r.Responses[i].GetResponseRange().GetKvs() {
			s := &spec{}
			if decode(string(kv.Key), kv.Value, s) == nil {
				changes = append(changes, t.keys.collection(s, over[i].record, over[i].revision))
			}
		}
	}
	for _, v := range t.commit(ctx, changes) {
		if v.err != nil {
			// Retried by somebody, or deposed; the next look tells.
			t.cfg.Logger.Debug("a finished task was not collected", "error", v.err)
		}
	}
	return nil
}

// collection deletes all that there is of a finished task.
func (k keys) collection(s *spec, r *record, revision int64) change {
	var c change
	c.unchanged(k.done(s.ID), revision)
	if s.Parent != "" {
		// Its task may yet have to be told what became of it.
		c.absent(k.state(s.Parent))
	}
	c.remove(k.done(s.ID))
	c.remove(k.spec(s.ID))
	if s.PayloadBytes > 0 && s.PayloadOf == s.ID {
		c.remove(k.payload(s.ID))
	}
	if s.IdempotencyKey != "" && s.Parent == "" {
		c.remove(k.idempotency(s.IdempotencyKey))
	}
	seen := map[string]bool{}
	for _, part := range r.Segments {
		if !seen[part.Agent] {
			seen[part.Agent] = true
			c.remove(k.results(part.Agent, s.ID), clientv3.WithPrefix())
		}
	}
	if s.Policy == All {
		c.remove(k.targets(s.ID))
	}
	return c
}
