package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/etcdkv"
)

const (
	// readTimeout bounds one read, with all its retries.
	readTimeout = 30 * time.Second
	// pieceBytes is about how much one answer is to hold; etcd knows no limit but
	// of keys. The first piece has firstPiece keys, none has more than maxPiece,
	// which also bounds what large values among small ones can come to.
	pieceBytes = 1 << 20
	firstPiece = 64
	maxPiece   = 500
)

// reader reads ranges at one revision, that of its first read unless it is
// given one. It reads with Get and not all ranges in one transaction: the
// client repeats a Get by itself when a member goes away, a transaction it does
// not; and a Get can be cut into pieces.
type reader struct {
	client   *clientv3.Client
	cluster  uint64
	revision int64
}

// pieceLimit is how many keys the next piece of a kind of values has; 0 = the
// first.
type pieceLimit int64

// each visits what lies in [from, end), in pieces.
func (r *reader) each(ctx context.Context, from, end string, limit *pieceLimit, visit func(*mvccpb.KeyValue)) error {
	for from != "" {
		kvs, next, err := r.piece(ctx, from, end, limit)
		if err != nil {
			return err
		}
		for _, kv := range kvs {
			visit(kv)
		}
		from = next
	}
	return nil
}

// key reads one key into found.
func (r *reader) key(ctx context.Context, key string, found *roster) error {
	return r.each(ctx, key, key+"\x00", new(pieceLimit), found.take)
}

// piece reads the beginning of [from, end), and says where the next piece
// begins; "" = there is none.
func (r *reader) piece(ctx context.Context, from, end string, limit *pieceLimit) (kvs []*mvccpb.KeyValue, next string, err error) {
	if *limit == 0 {
		*limit = firstPiece
	}
	res, err := r.get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(int64(*limit)), clientv3.WithRev(r.revision))
	switch {
	case errors.Is(err, rpctypes.ErrCompacted), errors.Is(err, rpctypes.ErrFutureRev):
		return nil, "", fmt.Errorf("revision %d is not in etcd: %w: list again from the start (%w)", r.revision, ErrExpired, err)
	case err != nil:
		return nil, "", err
	}
	if r.revision == 0 {
		r.revision, r.cluster = res.Header.GetRevision(), res.Header.GetClusterId()
	}
	if cluster := res.Header.GetClusterId(); cluster != r.cluster {
		return nil, "", fmt.Errorf("etcd is another cluster now (%x, was %x): %w: list again from the start", cluster, r.cluster, ErrExpired)
	}
	size := 0
	for _, kv := range res.Kvs {
		size += len(kv.Key) + len(kv.Value)
	}
	n := len(res.Kvs)
	if n == 0 {
		return nil, "", nil
	}
	// The size of what follows is not known: grow with care.
	*limit = min(max(pieceLimit(pieceBytes*n/max(size, 1)), 1), *limit*4, maxPiece)
	if res.More {
		next = string(res.Kvs[n-1].Key) + "\x00"
	}
	return res.Kvs, next, nil
}

// get waits for an etcd that cannot be reached, as one that is restarted or
// elects a leader.
func (r *reader) get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	retry := backoff.Backoff{Min: 100 * time.Millisecond, Max: 2 * time.Second}
	var last error
	for {
		res, err := r.client.Get(ctx, key, opts...)
		if err == nil {
			return res, nil
		}
		if !etcdkv.Unavailable(err) {
			if last != nil && ctx.Err() != nil {
				err = fmt.Errorf("%w, and before that: %w", err, last)
			}
			return nil, err
		}
		last = err
		if retry.Wait(ctx) != nil {
			return nil, fmt.Errorf("%w, and before that: %w", ctx.Err(), last)
		}
	}
}
