package etcdkv

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
)

// errStale ends a follow that heard nothing for too long.
var errStale = errors.New("etcd watch went silent")

// follow applies events to s and reports changes until something breaks; it
// returns why, and joins what it started.
func (w *Watch) follow(ctx context.Context, s *state) error {
	ctx, cancel := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)

	changed := make(chan struct{}, 1)
	receive := func(key string, opts ...clientv3.OpOption) {
		wg.Go(func() { cancel(w.receive(ctx, s, changed, key, opts)) })
	}
	for _, k := range w.cfg.Keys {
		receive(k)
	}
	for _, p := range w.cfg.Prefixes {
		receive(p, clientv3.WithPrefix())
	}
	wg.Go(func() { w.probe(ctx, s, cancel) })
	for {
		select {
		case <-changed:
			began := time.Now()
			if view := s.take(); len(view.Changed) > 0 {
				w.cfg.OnChange(view)
			}
			_ = backoff.Sleep(ctx, w.cfg.Coalesce-time.Since(began)) // the loop sees ctx's end
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// receive drains one etcd watch into s. The client buffers without bound what
// is not drained, so nothing slow happens here.
func (w *Watch) receive(ctx context.Context, s *state, changed chan<- struct{}, key string, opts []clientv3.OpOption) error {
	opts = append(opts, clientv3.WithRev(s.listed+1), clientv3.WithProgressNotify())
	for r := range w.cfg.Client.Watch(ctx, key, opts...) {
		if err := r.Err(); err != nil {
			return fmt.Errorf("watch %s in etcd: %w", key, err)
		}
		if r.Header == nil {
			continue
		}
		hasNews, err := s.receive(r)
		if err != nil {
			return err
		}
		w.life.hear()
		if hasNews {
			select {
			case changed <- struct{}{}:
			default: // the receiver has yet to look, and will see this too
			}
		}
	}
	return fmt.Errorf("watch %s in etcd: it ended", key)
}

// probe asks etcd for signs of life and ends the follow when none arrive. It
// judges by the local time of receipt alone: neither a full partition nor a
// watch at a revision that a restored store has not reached yet says a word.
func (w *Watch) probe(ctx context.Context, s *state, cancel context.CancelCauseFunc) {
	for {
		timer := time.NewTimer(backoff.Jitter(w.progressEvery, 0.2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if silent := time.Since(w.life.heardAt()); silent > w.staleAfter {
			cancel(fmt.Errorf("%w: nothing heard from %s for %s",
				errStale, Endpoints(w.cfg.Client), silent.Round(time.Second)))
			return
		}
		// It blocks while the stream is being opened again.
		ask, done := context.WithTimeout(ctx, w.progressEvery)
		err := w.cfg.Client.RequestProgress(ask)
		done()
		if err != nil {
			w.cfg.Logger.Debug("etcd watch: no progress to be had", "error", err)
		}
	}
}
