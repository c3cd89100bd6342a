package etcdkv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
)

// maxRanges is the server's default limit of operations in a transaction,
// which is what one listing is.
const maxRanges = 128

// DefaultCoalesce is the least distance between two views of a Watch unless
// its configuration says otherwise.
const DefaultCoalesce = 100 * time.Millisecond

// WatchConfig says what to watch and whom to tell.
type WatchConfig struct {
	// Client is used, never closed. Required.
	Client *clientv3.Client
	// Keys are exact keys, Prefixes all keys that begin with them. Together
	// 1 to 128. A prefix is read in one piece: keep it below some 100 MB.
	Keys     []string
	Prefixes []string
	// OnChange is called with the first view, even if it is empty, and then
	// whenever a key was set or deleted; never concurrently. While it runs,
	// and for Coalesce after it began, further changes are folded into the next
	// view, so a slow OnChange skips states but never misses the last. Required.
	OnChange func(View)
	// Coalesce is the least distance between the beginnings of two calls of
	// OnChange; default 100 ms, negative = none. The first change after a
	// pause is told at once.
	Coalesce time.Duration
	// OnError is called, from the same goroutine as OnChange, with what keeps
	// the view from being up to date, for a status display, and with nil once
	// it is up to date again. Watch goes on by itself. May be nil.
	OnError func(error)
	// Logger receives what is odd but handled; nil discards it.
	Logger *slog.Logger
}

// View is the state of the watched keys at one revision. Changes that one
// transaction made to several of the keys and prefixes may show one after the
// other.
type View struct {
	// Revision is the store's revision that the view is at least as new as.
	Revision int64
	// Values holds the keys that exist. It is the watch's own: read it before
	// OnChange returns, do not modify it. The Data in it may be kept, but not
	// modified.
	Values map[string]Value
	// Changed are the keys, sorted, that were set or deleted since the view
	// before; in the first view those that exist. After a compaction, a
	// restored backup or another cluster they are what really differs.
	Changed []string
}

// Value is a key's value.
type Value struct {
	Data []byte
	// ModRevision and CreateRevision are the revisions of the last change
	// and of the key's creation.
	ModRevision, CreateRevision int64
	// Lease is the lease that the key hangs on; 0 = none.
	Lease int64
}

// Watch keeps a view of keys for ever: through partitions, compaction,
// leader loss, a restored backup and an exchanged cluster.
type Watch struct {
	cfg     WatchConfig
	started atomic.Bool
	life    life

	// listTimeout bounds one listing.
	listTimeout time.Duration
	// progressEvery is the distance, jittered, of requests for a sign of life.
	progressEvery time.Duration
	// staleAfter is how long nothing at all may be received before the watch
	// is thought dead and listed anew.
	staleAfter time.Duration
}

// NewWatch checks cfg and starts nothing.
func NewWatch(cfg WatchConfig) (*Watch, error) {
	if cfg.Client == nil {
		return nil, errors.New("etcd watch: WatchConfig.Client is nil")
	}
	if cfg.OnChange == nil {
		return nil, errors.New("etcd watch: WatchConfig.OnChange is nil")
	}
	cfg.Keys, cfg.Prefixes = slices.Clone(cfg.Keys), slices.Clone(cfg.Prefixes)
	n := len(cfg.Keys) + len(cfg.Prefixes)
	if n == 0 || n > maxRanges {
		return nil, fmt.Errorf("etcd watch: %d keys and prefixes: want 1 to %d", n, maxRanges)
	}
	if slices.Contains(cfg.Keys, "") || slices.Contains(cfg.Prefixes, "") {
		return nil, errors.New("etcd watch: an empty key or prefix: want a name")
	}
	switch {
	case cfg.Coalesce == 0:
		cfg.Coalesce = DefaultCoalesce
	case cfg.Coalesce < 0:
		cfg.Coalesce = 0
	}
	if cfg.OnError == nil {
		cfg.OnError = func(error) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Watch{
		cfg:           cfg,
		listTimeout:   5 * time.Second,
		progressEvery: 15 * time.Second,
		staleAfter:    40 * time.Second,
	}, nil
}

// Run keeps the view until ctx ends and returns its error. It can be called
// once.
func (w *Watch) Run(ctx context.Context) error {
	if w.started.Swap(true) {
		return errors.New("etcd watch: Run called twice")
	}
	var (
		retry  = backoff.Backoff{Min: 200 * time.Millisecond, Max: 5 * time.Second}
		last   *state
		failed bool
	)
	for ctx.Err() == nil {
		began := time.Now()
		next, err := w.list(ctx)
		if err == nil {
			w.noteReset(last, next)
			if view := next.since(last); last == nil || len(view.Changed) > 0 {
				w.cfg.OnChange(view)
			}
			last = next
			if failed {
				failed = false
				w.cfg.OnError(nil)
			}
			err = w.follow(ctx, next)
		}
		if ctx.Err() != nil {
			break
		}
		// A watch that lived a while starts the waits anew; one that dies
		// at once again and again must not spin.
		if time.Since(began) > retry.Max {
			retry.Reset()
		}
		if !errors.Is(err, rpctypes.ErrCompacted) {
			failed = true
			w.cfg.OnError(err)
		}
		w.cfg.Logger.Debug("etcd watch starts anew", "error", err)
		_ = retry.Wait(ctx)
	}
	return ctx.Err()
}

// list reads all keys at one revision.
func (w *Watch) list(ctx context.Context) (*state, error) {
	ctx, cancel := context.WithTimeout(ctx, w.listTimeout)
	defer cancel()
	var ops []clientv3.Op
	for _, k := range w.cfg.Keys {
		ops = append(ops, clientv3.OpGet(k))
	}
	for _, p := range w.cfg.Prefixes {
		ops = append(ops, clientv3.OpGet(p, clientv3.WithPrefix()))
	}
	r, err := w.cfg.Client.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return nil, fmt.Errorf("read from etcd at %s: %w", Endpoints(w.cfg.Client), err)
	}
	w.life.hear()
	s := newState(r.Header.GetClusterId(), r.Header.GetRevision())
	for _, part := range r.Responses {
		for _, kv := range part.GetResponseRange().GetKvs() {
			s.values[string(kv.Key)] = valueOf(kv)
		}
	}
	return s, nil
}

// noteReset logs what an operator will want to know happened.
func (w *Watch) noteReset(last, next *state) {
	switch {
	case last == nil:
	case last.cluster != next.cluster:
		w.cfg.Logger.Warn("etcd is another cluster now: its content replaces the view",
			"cluster_was", fmt.Sprintf("%x", last.cluster), "cluster", fmt.Sprintf("%x", next.cluster))
	case next.revision < last.revision:
		w.cfg.Logger.Warn("etcd went back in time, as after a restored backup: its content replaces the view",
			"revision_was", last.revision, "revision", next.revision)
	}
}
