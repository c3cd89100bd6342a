package etcdkv

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Sizes of a listing's pages. etcd counts keys only, and a value may have
// 1.5 MiB: the first pages are small, the others as large as the size of the
// keys before them allows.
const (
	firstPage = 64 // of all prefixes together
	maxPage   = 1000
	pageBytes = 4 << 20
)

// list reads all keys at one revision. A prefix with too many keys for one
// answer is read page by page, at the revision of the first; if that one is
// compacted meanwhile, the listing fails with ErrCompacted. Each answer is
// waited for no longer than patience.
func (w *Watch) list(ctx context.Context, patience time.Duration) (*state, error) {
	r, err := w.firstPages(ctx, patience)
	if err != nil {
		return nil, err
	}
	s := newState(r.Header.GetClusterId(), r.Header.GetRevision(), w.cfg.MaxKeys, w.cfg.MaxBytes)
	var found int64
	for _, part := range r.Responses {
		page := part.GetResponseRange()
		found += page.GetCount()
		s.load(page.GetKvs())
	}
	if found > int64(w.cfg.MaxKeys) {
		return nil, w.tooLarge(fmt.Sprintf("%d keys", found), fmt.Sprintf("%d (MaxKeys)", w.cfg.MaxKeys))
	}
	for i, prefix := range w.cfg.Prefixes {
		page := r.Responses[len(w.cfg.Keys)+i].GetResponseRange()
		kvs, more := page.GetKvs(), page.GetMore()
		for more && len(kvs) > 0 && s.bytes <= w.cfg.MaxBytes {
			if kvs, more, err = w.nextPage(ctx, patience, s, prefix, string(kvs[len(kvs)-1].Key)); err != nil {
				return nil, err
			}
			s.load(kvs)
		}
	}
	if s.bytes > w.cfg.MaxBytes {
		return nil, w.tooLarge(fmt.Sprintf("at least %d bytes", s.bytes), fmt.Sprintf("%d (MaxBytes)", w.cfg.MaxBytes))
	}
	return s, nil
}

// firstPages reads the exact keys and the first page of each prefix, in this
// order, in one transaction.
func (w *Watch) firstPages(ctx context.Context, patience time.Duration) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	limit := max(firstPage/int64(max(len(w.cfg.Prefixes), 1)), 1)
	var ops []clientv3.Op
	for _, k := range w.cfg.Keys {
		ops = append(ops, clientv3.OpGet(k))
	}
	for _, p := range w.cfg.Prefixes {
		ops = append(ops, clientv3.OpGet(p, clientv3.WithPrefix(), clientv3.WithLimit(limit)))
	}
	r, err := w.cfg.Client.Txn(ctx).Then(ops...).Commit()
	if err == nil && len(r.Responses) != len(ops) {
		err = fmt.Errorf("%d answers to %d questions", len(r.Responses), len(ops))
	}
	if err != nil {
		return nil, w.listFailed(err)
	}
	w.life.hear()
	return r, nil
}

// nextPage reads the keys of prefix that follow after.
func (w *Watch) nextPage(ctx context.Context, patience time.Duration, s *state, prefix, after string) (kvs []*mvccpb.KeyValue, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	limit := min(max(pageBytes*int64(len(s.values))/int64(max(s.bytes, 1)), 1), maxPage)
	r, err := w.cfg.Client.Get(ctx, after+"\x00",
		clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix)),
		clientv3.WithRev(s.listed), clientv3.WithLimit(limit))
	switch {
	case err != nil:
		return nil, false, w.listFailed(err)
	case r.Header.GetClusterId() != s.cluster:
		return nil, false, errReset
	}
	w.life.hear()
	return r.Kvs, r.More, nil
}

func (w *Watch) listFailed(err error) error {
	return fmt.Errorf("read from etcd at %s: %w", Endpoints(w.cfg.Client), err)
}

func (w *Watch) tooLarge(found, most string) error {
	where := strings.Join(append(append([]string{}, w.cfg.Prefixes...), w.cfg.Keys...), ", ")
	return fmt.Errorf("%w: found %s under %s, want at most %s: delete from etcd what does not belong there", ErrTooLarge, found, where, most)
}
