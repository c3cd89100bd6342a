package etcdkv

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"

	"github.com/perennial-go/perennial/internal/backoff"
)

// slowCall is what a call of OnChange may take while changes wait before the
// log says that it is slow.
const slowCall = time.Second

var (
	// errStale ends a follow that heard nothing for too long.
	errStale = errors.New("etcd watch went silent")
	// errReconnected ends a follow whose connection was lost and is back.
	errReconnected = errors.New("etcd was away")
)

// follow tells first, applies events to s and tells the changes until
// something breaks; it returns why, and joins what it started. It calls good
// once first has been told.
func (w *Watch) follow(ctx context.Context, s *state, first View, good func()) error {
	ctx, cancel := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)

	// Before first is told: a slow receiver must not hold up the draining.
	changed := make(chan struct{}, 1)
	receive := func(key string, opts ...clientv3.OpOption) {
		receiver := s.receiver(key)
		wg.Go(func() { cancel(w.receive(ctx, s, receiver, changed, key, opts)) })
	}
	for _, k := range w.cfg.Keys {
		receive(k)
	}
	for _, p := range w.cfg.Prefixes {
		receive(p, clientv3.WithPrefix())
	}
	wg.Go(func() { w.probe(ctx, cancel) })
	wg.Go(func() { w.reconnect(ctx, cancel) })

	var began time.Time
	if w.life.views() == 0 || len(first.Changed) > 0 {
		began = time.Now()
		w.tell(s, first)
	}
	good()
	for {
		select {
		case <-changed:
			if early := w.cfg.Coalesce - time.Since(began); early > 0 && backoff.Sleep(ctx, early) != nil {
				return context.Cause(ctx)
			}
			began = time.Now()
			view, err := s.take()
			if err != nil {
				return err
			}
			if len(view.Changed) > 0 {
				w.tell(s, view)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tell calls OnChange, and says so if it is slow.
func (w *Watch) tell(s *state, view View) {
	w.life.calls(view)
	w.cfg.OnChange(view)
	took, news := w.life.called(s.waiting)
	if news {
		w.cfg.Logger.Warn("whoever follows these etcd keys is slow: changes wait and are folded together",
			"duration", took, "count", s.waiting())
	}
}

// receive drains one etcd watch into s. The client buffers without bound what
// is not drained, so nothing slow happens here. The client puts fragments
// together: without them the answer that catches up on much has no bound.
func (w *Watch) receive(ctx context.Context, s *state, receiver int, changed chan<- struct{}, key string, opts []clientv3.OpOption) error {
	// From the listing's own revision: a watch from the one after it gets no
	// sign of life before somebody writes, which in a quiet etcd looks dead.
	opts = append(opts, clientv3.WithRev(s.listed), clientv3.WithProgressNotify(), clientv3.WithFragment())
	for r := range w.cfg.Client.Watch(ctx, key, opts...) {
		if err := r.Err(); err != nil {
			return fmt.Errorf("watch %s in etcd: %w", key, err)
		}
		if r.Header == nil {
			continue
		}
		news, err := s.receive(receiver, r)
		if err != nil {
			return err
		}
		w.life.receives(news)
		ring(w.sign)
		if news > 0 {
			select {
			case changed <- struct{}{}:
			default: // the receiver has yet to look, and will see this too
			}
		}
	}
	return fmt.Errorf("watch %s in etcd: it ended", key)
}

// probe asks etcd for a sign of life where nothing else was heard, and ends the
// follow when none arrives. It judges by the local time of receipt alone:
// neither a full partition nor a watch at a revision that a restored store has
// not reached yet says a word.
func (w *Watch) probe(ctx context.Context, cancel context.CancelCauseFunc) {
	for {
		heard := w.life.heardAt()
		// The watches of a client share a stream, and each of them hears the
		// answer to what one of them asked.
		if backoff.Sleep(ctx, time.Until(heard.Add(backoff.Jitter(w.quiet, quietJitter)))) != nil {
			return
		}
		for asked := 0; w.life.heardAt().Equal(heard); asked++ {
			if asked == questions {
				// The same words each time: it is told once.
				cancel(fmt.Errorf("%w: nothing heard from %s, and %d questions not answered", errStale, Endpoints(w.cfg.Client), questions))
				return
			}
			if w.ask(ctx) != nil {
				return
			}
		}
	}
}

// ask asks for a sign of life and waits until one comes, or for as long as it
// may take; its error is ctx's.
func (w *Watch) ask(ctx context.Context) error {
	answer, cancel := context.WithTimeout(ctx, w.answerWithin)
	defer cancel()
	select {
	case <-w.sign: // of before
	default:
	}
	// It blocks while the stream is being opened again.
	if err := w.cfg.Client.RequestProgress(answer); err != nil {
		w.cfg.Logger.Debug("etcd watch: no progress to be had", "error", err)
	}
	select {
	case <-w.sign:
	case <-answer.Done():
	}
	return ctx.Err()
}

// reconnect ends the follow a while after a lost connection is back. The
// client resumes the watches by itself, which is all that is wanted if etcd
// is still the same; but it also goes on, in silence or with a wrong view,
// where the store was restored or exchanged meanwhile.
func (w *Watch) reconnect(ctx context.Context, cancel context.CancelCauseFunc) {
	conn := w.cfg.Client.ActiveConnection()
	lost := false // the listing has just come through it
	for {
		now := conn.GetState()
		if now == connectivity.Ready && lost {
			if backoff.Sleep(ctx, w.turn()) == nil {
				cancel(errReconnected)
			}
			return
		}
		lost = true // once now is over, if not already
		if !conn.WaitForStateChange(ctx, now) {
			return
		}
	}
}
