package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/etcdkv"
)

// askAgain is how long a candidate waits that may not write what it must.
const askAgain = 10 * time.Minute

// vacancyTTLs is after how many TTLs without news a candidate looks anyhow.
const vacancyTTLs = 10

// Run stands for election, and assigns tasks while elected, until ctx ends,
// whose error it returns. It resigns when it ends. Who may not write the
// election's key is told so in the log, once, and only waits. It can be called
// once.
func (d *Dispatcher) Run(ctx context.Context) error {
	if d.started.Swap(true) {
		return errors.New("dispatcher: Run called twice")
	}
	if err := d.permitted(ctx); err != nil {
		return err
	}
	vacant := make(chan struct{}, 1)
	var taken atomic.Bool
	w, err := etcdkv.NewWatch(etcdkv.WatchConfig{
		Client: d.cfg.Client, Keys: []string{d.keys.leader()}, Logger: d.cfg.Logger,
		OnChange: func(v etcdkv.View) {
			_, is := v.Values[d.keys.leader()]
			if taken.Store(is); !is {
				ring(vacant)
			}
		},
	})
	if err != nil {
		return err
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { _ = w.Run(ctx) }) // its error is ctx's
	retry := backoff.Backoff{Max: d.cfg.TTL}
	for {
		// One who was elected and died between two views shows in neither.
		unseen := time.NewTimer(backoff.Jitter(vacancyTTLs*d.cfg.TTL, 0.2))
		select {
		case <-ctx.Done():
		case <-vacant:
		case <-unseen.C:
		}
		unseen.Stop()
		// Of a fleet of candidates few are to ask for a lease.
		if backoff.Sleep(ctx, backoff.Jitter(d.cfg.TTL/20, 1)) != nil {
			return ctx.Err()
		}
		if taken.Load() {
			continue
		}
		switch err := d.stand(ctx); {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errTaken):
		default:
			d.cfg.Logger.Warn("this dispatcher's term has ended", "error", err)
			_ = retry.Wait(ctx)
			if err := d.permitted(ctx); err != nil {
				return err
			}
			// The watch tells of a change only, and there may be none.
			ring(vacant)
		}
	}
}

// permitted returns once the election's key may be written.
func (d *Dispatcher) permitted(ctx context.Context) error {
	told := false
	for {
		limited, cancel := context.WithTimeout(ctx, callTimeout)
		// Nothing has a negative revision: etcd looks at permissions only.
		_, err := d.cfg.Client.Txn(limited).
			If(clientv3.Compare(clientv3.CreateRevision(d.keys.leader()), "<", 0)).
			Then(clientv3.OpPut(d.keys.leader(), ""), clientv3.OpDelete(d.keys.states(), clientv3.WithPrefix())).Commit()
		cancel()
		if !errors.Is(err, rpctypes.ErrPermissionDenied) {
			return ctx.Err() // of other trouble the rest tells
		}
		if !told {
			told = true
			d.cfg.Logger.Info("no dispatcher of tasks here: it may not write what it needs to", "key", d.keys.root, "error", err)
		}
		if backoff.Sleep(ctx, backoff.Jitter(askAgain, 0.2)) != nil {
			return ctx.Err()
		}
	}
}

var (
	// errTaken: another candidate was elected.
	errTaken = errors.New("another dispatcher was elected")
	// errDeposed ends a term.
	errDeposed = errors.New("the election's key is not this dispatcher's any more")
)

// stand asks for a lease and for the election, and holds the office until it is
// lost or ctx ends. Its lease is revoked then, and with it the election.
func (d *Dispatcher) stand(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	office := make(chan int64, 1)
	var session *etcdkv.Session
	session, err := etcdkv.NewSession(etcdkv.SessionConfig{
		Client: d.cfg.Client, TTL: d.cfg.TTL, Logger: d.cfg.Logger,
		OnLease: func(ctx context.Context, lease int64) error {
			revision, err := d.elect(ctx, lease)
			if err != nil {
				return err
			}
			select {
			case office <- revision:
				return nil
			default:
				return fmt.Errorf("%w: %w", etcdkv.ErrFatal, errDeposed) // by another lease
			}
		},
	})
	if err != nil {
		return err
	}
	held := make(chan struct{})
	go func() {
		defer close(held)
		cancel(session.Run(ctx))
	}()
	select {
	case <-ctx.Done():
	case revision := <-office:
		office <- revision // it stays taken
		d.cfg.Logger.Info("this dispatcher assigns tasks now", "name", d.cfg.ID)
		d.cfg.Metrics.dispatcher.Set(1)
		cancel(newTerm(d, revision).run(ctx))
		d.cfg.Metrics.dispatcher.Set(0)
	}
	<-held
	end, stop := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer stop()
	if err := session.Revoke(end); err != nil {
		d.cfg.Logger.Warn("the election's lease ends by itself", "error", err)
	}
	return context.Cause(ctx)
}

// elect makes the election's key this candidate's, and returns its revision.
func (d *Dispatcher) elect(ctx context.Context, lease int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	key := d.keys.leader()
	value, err := encode(leaderValue{schema, d.cfg.ID, now()})
	if err != nil {
		return 0, fmt.Errorf("%w: %w", etcdkv.ErrFatal, err)
	}
	r, err := d.cfg.Client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, value, clientv3.WithLease(clientv3.LeaseID(lease)))).
		Else(clientv3.OpGet(key)).Commit()
	if err != nil {
		return 0, err
	}
	if r.Succeeded {
		return r.Header.Revision, nil
	}
	for _, kv := range r.Responses[0].GetResponseRange().GetKvs() {
		if kv.Lease == lease { // written before, and not answered
			return kv.CreateRevision, nil
		}
	}
	return 0, fmt.Errorf("%w: %w", etcdkv.ErrFatal, errTaken)
}

// ring wakes the one that listens, once however often it is rung.
func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}
