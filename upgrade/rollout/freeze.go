package rollout

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// freezeChain takes the place of a rollout's ID in the history of the brake,
// which is there with and without a rollout.
const freezeChain = "freeze"

// tailKeys are those among which the last record of a chain is looked for.
const tailKeys = 20

// Freeze pulls the fleet's brake: no agent starts what a plan brings until
// Unfreeze. With reverts those are held up as well.
func (o *Operator) Freeze(ctx context.Context, a Act, reverts bool) error {
	return o.brake(ctx, a, &Freeze{Schema: Schema, By: a.By, Reason: a.Reason, Reverts: reverts})
}

// Unfreeze releases the brake; it is no error if it was not pulled.
func (o *Operator) Unfreeze(ctx context.Context, a Act) error { return o.brake(ctx, a, nil) }

// brake sets the brake, or releases it if f is nil, and records it. That does
// not touch the plan: it is not to wait for whoever else writes it.
func (o *Operator) brake(ctx context.Context, a Act, f *Freeze) error {
	if err := a.check(); err != nil {
		return err
	}
	return o.insist(ctx, func(ctx context.Context) (bool, error) {
		s, err := o.now(ctx)
		if err != nil {
			return false, err
		}
		if f == nil && s.freeze.mod == 0 {
			return true, nil
		}
		seq, last, err := o.tail(ctx, freezeChain)
		if err != nil {
			return false, err
		}
		at := time.Now()
		r := a.record(EventUnfrozen, s, at)
		r.Schema, r.Fleet, r.Rollout, r.Seq, r.Before, r.At = Schema, o.keys.fleet, freezeChain, seq+1, last, at.UTC()
		put := clientv3.OpDelete(o.keys.freeze())
		if f != nil {
			r.Event, f.At = EventFrozen, at.UTC()
			value, err := encode(f)
			if err != nil {
				return true, err
			}
			put = clientv3.OpPut(o.keys.freeze(), value)
		}
		line, err := encode(r)
		if err != nil {
			return true, err
		}
		key := o.keys.record(freezeChain, r.Seq)
		ops := []clientv3.Op{put, clientv3.OpPut(key, line)}
		if old := r.Seq - keepFreezes; old > 0 {
			ops = append(ops, clientv3.OpDelete(o.keys.record(freezeChain, old)))
		}
		_, done, _, err := o.commit(ctx, []clientv3.Cmp{
			clientv3.Compare(clientv3.ModRevision(o.keys.freeze()), "=", s.freeze.mod),
			clientv3.Compare(clientv3.CreateRevision(key), "=", 0),
		}, ops)
		return done, err
	})
}

// tail returns the number and the digest of the last record of a chain; 0 = it
// has none.
func (s *store) tail(ctx context.Context, chain string) (seq int64, digest string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// What does not belong there is not to keep anybody from the brake.
	r, err := s.client.Get(ctx, s.keys.records(chain), clientv3.WithPrefix(), clientv3.WithLimit(tailKeys),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	if err != nil {
		return 0, "", s.failed("read the history", err)
	}
	for _, kv := range r.Kvs {
		if seq, err := s.keys.seq(chain, string(kv.Key)); err == nil {
			return seq, digestOf(kv.Value), nil
		}
	}
	return 0, "", nil
}
