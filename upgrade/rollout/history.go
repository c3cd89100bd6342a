package rollout

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// HistorySize is how many rollouts the history keeps.
	HistorySize = 20
	// keepHead and keepTail are how many of the first and of the last records of one
	// rollout it keeps: a plan stands, and lets in who comes late, for ever.
	keepHead = 1000
	keepTail = 4000
	// keepFreezes is how many records of the brake it keeps.
	keepFreezes = 200
	// recordPage is how many records are read at once. One has less than 1 KiB,
	// the first of a rollout some more.
	recordPage = 250
	// maxChains bounds how many rollouts are looked for: what does not belong
	// there must not keep anybody.
	maxChains = 1000
	// maxPruned bounds what one Start drops; etcd takes 128 operations at once.
	maxPruned = 100
)

// HistoryOptions say what of the history to read. The zero value reads all.
type HistoryOptions struct {
	// Rollout is the ID of the only rollout to read, or "freeze" for the brake
	// alone; "" = all, the newest first, and the brake last.
	Rollout string
	// Limit is the most rollouts; 0 = all that are kept, which are 20.
	Limit int
}

// Past is the history of one rollout.
type Past struct {
	Rollout string   `json:"rollout"`
	Records []Record `json:"records"`
	// Dropped is how many records are not kept any more, after the first 1,000 of a
	// rollout that has more than 5,000.
	Dropped int64 `json:"dropped,omitempty"`
	// Broken says what is wrong with the chain of its records, the first only;
	// "" = nothing.
	Broken string `json:"broken,omitempty"`
}

// chain is one that is there.
type chain struct {
	id    string
	began int64 // create revision of its first record
}

// History reads rollouts, the newest first, and their records, the first first,
// and checks that none is missing and none was changed: up to the plan, which
// names the last. If so, the error wraps ErrHistory, and what could be read is
// returned all the same.
func (o *Operator) History(ctx context.Context, opts HistoryOptions) (all []Past, err error) {
	err = o.insist(ctx, func(ctx context.Context) (bool, error) {
		all, err = o.past(ctx, opts)
		return err == nil, err
	})
	if err != nil {
		return all, err
	}
	for _, p := range all {
		if p.Broken != "" {
			return all, fmt.Errorf("rollout %s of fleet %s: %s: %w", p.Rollout, o.keys.fleet, p.Broken, ErrHistory)
		}
	}
	return all, nil
}

func (o *Operator) past(ctx context.Context, opts HistoryOptions) ([]Past, error) {
	// The plan first: what is written meanwhile is at the end of what is read.
	s, err := o.now(ctx)
	if err != nil {
		return nil, err
	}
	chains, err := o.chains(ctx)
	if err != nil {
		return nil, err
	}
	if p := s.plan.value; p != nil && !slices.ContainsFunc(chains, func(c chain) bool { return c.id == p.ID }) {
		chains = slices.Insert(chains, 0, chain{id: p.ID}) // all of it is missing
	}
	if opts.Rollout != "" {
		chains = slices.DeleteFunc(chains, func(c chain) bool { return c.id != opts.Rollout })
	} else if opts.Limit > 0 {
		chains = chains[:min(opts.Limit, len(chains))]
	}
	var all []Past
	var next string // what the rollout after it says of the last record
	for i, c := range chains {
		l := links{keys: o.keys, past: Past{Rollout: c.id, Records: []Record{}}}
		if err := o.each(ctx, c.id, 1, l.add); err != nil {
			return nil, err
		}
		l.whole()
		if p := s.plan.value; p != nil && p.ID == c.id {
			l.reaches(p.Seq, p.History)
		}
		if i > 0 && next != "" && c.id != freezeChain {
			l.ends(next)
		}
		if next = ""; len(l.past.Records) > 0 {
			next = l.past.Records[0].Before
		}
		all = append(all, l.past)
	}
	return all, nil
}

// chains are those that there are, the newest first, that of the brake last. It
// asks once for each.
func (s *store) chains(ctx context.Context) ([]chain, error) {
	var all []chain
	prefix := s.keys.history()
	end := clientv3.GetPrefixRangeEnd(prefix)
	for from := prefix; len(all) < maxChains; {
		limited, cancel := context.WithTimeout(ctx, callTimeout)
		r, err := s.client.Get(limited, from, clientv3.WithRange(end), clientv3.WithLimit(1), clientv3.WithKeysOnly())
		cancel()
		if err != nil {
			return nil, s.failed("read the history", err)
		}
		if len(r.Kvs) == 0 {
			break
		}
		id, _, _ := strings.Cut(strings.TrimPrefix(string(r.Kvs[0].Key), prefix), "/")
		all = append(all, chain{id, r.Kvs[0].CreateRevision})
		from = clientv3.GetPrefixRangeEnd(s.keys.records(id))
	}
	slices.SortFunc(all, func(a, b chain) int {
		if a.id == freezeChain || b.id == freezeChain {
			return cmp.Compare(strings.Count(a.id, freezeChain), strings.Count(b.id, freezeChain))
		}
		return cmp.Compare(b.began, a.began)
	})
	return all, nil
}

// each visits the records of a chain from a number on, in their order.
func (s *store) each(ctx context.Context, id string, seq int64, visit func(*mvccpb.KeyValue)) error {
	from, end := s.keys.record(id, seq), clientv3.GetPrefixRangeEnd(s.keys.records(id))
	for from != "" {
		limited, cancel := context.WithTimeout(ctx, callTimeout)
		r, err := s.client.Get(limited, from, clientv3.WithRange(end), clientv3.WithLimit(recordPage))
		cancel()
		if err != nil {
			return s.failed("read the history", err)
		}
		for _, kv := range r.Kvs {
			visit(kv)
		}
		if from = ""; r.More && len(r.Kvs) > 0 {
			from = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
		}
	}
	return nil
}

// links checks a chain record by record.
type links struct {
	keys keys
	past Past
	last string // digest of the last record
}

func (l *links) broken(format string, args ...any) {
	if l.past.Broken == "" {
		l.past.Broken = fmt.Sprintf(format, args...)
	}
}

// add takes the next record.
func (l *links) add(kv *mvccpb.KeyValue) {
	id, key := l.past.Rollout, string(kv.Key)
	seq, err := l.keys.seq(id, key)
	if err != nil {
		l.broken("%v", err)
		return
	}
	var r Record
	if err := decode(key, kv.Value, maxRecord, &r); err != nil {
		l.broken("record %d cannot be read: %v", seq, err)
	}
	first := len(l.past.Records) == 0 && l.last == ""
	var want int64 = 1
	if !first {
		want = l.past.Records[len(l.past.Records)-1].Seq + 1
	}
	// What is not kept: how many that may be shows once the last is known.
	dropped := !first && want == keepHead+1 && seq > want && id != freezeChain
	if dropped {
		l.past.Dropped = seq - want
	}
	switch {
	case dropped && r.Seq == seq && r.Rollout == id:
	case seq != want && (!first || id != freezeChain):
		l.broken("record %d is missing", want)
	case r.Seq != seq || r.Rollout != id:
		l.broken("record %d says that it is record %d of %.130s", seq, r.Seq, r.Rollout)
	case !first && r.Before != l.last:
		l.broken("record %d was written after another record %d than the one that is there", seq, seq-1)
	case kv.CreateRevision != kv.ModRevision:
		l.broken("record %d was written twice", seq)
	}
	l.last = digestOf(kv.Value)
	r.Seq = seq
	l.past.Records = append(l.past.Records, r)
}

// whole checks that of the records in between none is missing that is to be kept.
func (l *links) whole() {
	if l.past.Dropped == 0 {
		return
	}
	if last := l.past.Records[len(l.past.Records)-1].Seq; l.past.Dropped > last-keepTail-keepHead {
		l.broken("record %d is missing", keepHead+l.past.Dropped)
	}
}

// reaches checks that a record is there which the plan names.
func (l *links) reaches(seq int64, digest string) {
	i := slices.IndexFunc(l.past.Records, func(r Record) bool { return r.Seq == seq })
	switch {
	case i < 0:
		l.broken("record %d is missing, which the plan names", seq)
	case i == len(l.past.Records)-1 && l.last != digest:
		l.broken("record %d is another than the one that the plan names", seq)
	}
}

// ends checks that the last record is the one that the rollout after it names.
func (l *links) ends(digest string) {
	if l.last != digest {
		l.broken("its last record is another than the one that the rollout after it names")
	}
}

// prune keeps of the history the newest rollouts, and of the documents those of
// the plan.
func (s *store) prune(ctx context.Context) error {
	chains, err := s.chains(ctx)
	if err != nil {
		return err
	}
	now, err := s.now(ctx)
	if err != nil || now.plan.value == nil {
		return err
	}
	keep := documentsOf(*now.plan.value)
	var ops []clientv3.Op
	for i, c := range chains {
		if i >= HistorySize && c.id != freezeChain && c.id != now.plan.value.ID && len(ops) < maxPruned {
			ops = append(ops, clientv3.OpDelete(s.keys.records(c.id), clientv3.WithPrefix()))
		}
	}
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := s.client.Get(limited, s.keys.documents(), clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(maxPruned))
	if err != nil {
		return s.failed("read the documents", err)
	}
	for _, kv := range r.Kvs {
		// One that was laid after the plan is of a rollout that is about to start.
		if hex := strings.TrimPrefix(string(kv.Key), s.keys.documents()); !slices.Contains(keep, hex) && kv.ModRevision < now.plan.mod && len(ops) < maxPruned {
			ops = append(ops, clientv3.OpDelete(string(kv.Key)))
		}
	}
	if len(ops) == 0 {
		return nil
	}
	_, _, _, err = s.commit(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(s.keys.plan()), "=", now.plan.mod)}, ops)
	return err
}
