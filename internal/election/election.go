// Package election elects one of any number of candidates through a key in etcd.
package election

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/etcdkv"
)

const (
	// DefaultTTL is that of Config.TTL.
	DefaultTTL = 10 * time.Second
	// askAgain is how long a candidate waits that may not write what it must.
	askAgain = 10 * time.Minute
	// standBackTTLs is for how many TTLs one whose term was denied what it was to do
	// leaves the election to others.
	standBackTTLs = 2
	// vacancyTTLs is after how many TTLs without news a candidate looks anyhow.
	vacancyTTLs = 10
	// callTimeout bounds a call to etcd.
	callTimeout = 5 * time.Second
)

// ErrDeposed ends a term whose key is another's.
var ErrDeposed = errors.New("the election's key is not this candidate's any more")

// errTaken: another candidate was elected.
var errTaken = errors.New("another candidate was elected")

// Config says what is stood for. All but TTL and Logger is required.
type Config struct {
	// Client is used, never closed.
	Client *clientv3.Client
	// Key is that of the election: whoever created it is elected.
	Key string
	// Value is what is written there. It is asked for at each attempt.
	Value func() (string, error)
	// Must are operations that the elected must be permitted. A candidate that is
	// not stands back. They are never performed.
	Must []clientv3.Op
	// Office is what is stood for, for the log.
	Office string
	// TTL is how long the election outlives one who died; default 10 s, at least
	// 1 s. The elected has a lease of its own: that of its agent outlives the
	// process in a hot swap.
	TTL time.Duration
	// Term is called when elected, with the create revision of Key, which each
	// write of the term compares. Its ctx ends when the lease is lost. When it
	// returns the term is over, and its error is logged. After one of etcd's
	// denials the candidate stands back for a while.
	Term func(ctx context.Context, revision int64) error
	// Logger receives what goes wrong; nil discards it.
	Logger *slog.Logger
}

// Election is a candidate.
type Election struct {
	cfg     Config
	started atomic.Bool
}

// CheckTTL refuses a TTL that etcd does not have.
func CheckTTL(ttl time.Duration) error {
	if ttl != 0 && ttl < time.Second {
		return fmt.Errorf("TTL %s: want at least 1s, which is etcd's least", ttl)
	}
	return nil
}

// New checks cfg and starts nothing.
func New(cfg Config) (*Election, error) {
	switch {
	case cfg.Client == nil, cfg.Key == "", cfg.Value == nil, cfg.Term == nil, len(cfg.Must) == 0, cfg.Office == "":
		return nil, errors.New("election: want Client, Key, Value, Must, Office and Term, one is missing")
	case CheckTTL(cfg.TTL) != nil:
		return nil, fmt.Errorf("election: %w", CheckTTL(cfg.TTL))
	}
	if cfg.TTL == 0 {
		cfg.TTL = DefaultTTL
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Election{cfg: cfg}, nil
}

// Guard is what each write of a term compares.
func Guard(key string, revision int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(key), "=", revision)
}

// Run stands for election, again and again, until ctx ends, whose error it
// returns. It resigns when it ends. Who may not write what the elected must is
// told so in the log, once, and only waits. It can be called once.
func (e *Election) Run(ctx context.Context) error {
	if e.started.Swap(true) {
		return errors.New("election: Run called twice")
	}
	if err := e.permitted(ctx); err != nil {
		return err
	}
	vacant := make(chan struct{}, 1)
	var taken atomic.Bool
	w, err := etcdkv.NewWatch(etcdkv.WatchConfig{
		Client: e.cfg.Client, Keys: []string{e.cfg.Key}, Logger: e.cfg.Logger,
		OnChange: func(v etcdkv.View) {
			_, is := v.Values[e.cfg.Key]
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
	retry := backoff.Backoff{Max: e.cfg.TTL}
	for {
		// One who was elected and died between two views shows in neither.
		unseen := time.NewTimer(backoff.Jitter(vacancyTTLs*e.cfg.TTL, 0.2))
		select {
		case <-ctx.Done():
		case <-vacant:
		case <-unseen.C:
		}
		unseen.Stop()
		// Of a fleet of candidates few are to ask for a lease.
		if backoff.Sleep(ctx, backoff.Jitter(e.cfg.TTL/20, 1)) != nil {
			return ctx.Err()
		}
		if taken.Load() {
			continue
		}
		switch err := e.stand(ctx); {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errTaken):
		default:
			e.cfg.Logger.Warn("the term of the elected has ended", "name", e.cfg.Office, "error", err)
			_ = retry.Wait(ctx)
			if errors.Is(err, rpctypes.ErrPermissionDenied) {
				_ = backoff.Sleep(ctx, backoff.Jitter(standBackTTLs*e.cfg.TTL, 0.5))
			}
			if err := e.permitted(ctx); err != nil {
				return err
			}
			// The watch tells of a change only, and there may be none.
			ring(vacant)
		}
	}
}

// permitted returns once what the elected must write may be written.
func (e *Election) permitted(ctx context.Context) error {
	told := false
	for {
		limited, cancel := context.WithTimeout(ctx, callTimeout)
		// Nothing has a negative revision: etcd looks at permissions only.
		_, err := e.cfg.Client.Txn(limited).
			If(clientv3.Compare(clientv3.CreateRevision(e.cfg.Key), "<", 0)).
			Then(append([]clientv3.Op{clientv3.OpPut(e.cfg.Key, "")}, e.cfg.Must...)...).Commit()
		cancel()
		if !errors.Is(err, rpctypes.ErrPermissionDenied) {
			return ctx.Err() // of other trouble the rest tells
		}
		if !told {
			told = true
			e.cfg.Logger.Info("no candidate here: it may not write what the elected must", "name", e.cfg.Office, "key", e.cfg.Key, "error", err)
		}
		if backoff.Sleep(ctx, backoff.Jitter(askAgain, 0.2)) != nil {
			return ctx.Err()
		}
	}
}

// stand asks for a lease and for the election, and holds the office until it is
// lost or ctx ends. Its lease is revoked then, and with it the election.
func (e *Election) stand(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	office := make(chan int64, 1)
	var session *etcdkv.Session
	session, err := etcdkv.NewSession(etcdkv.SessionConfig{
		Client: e.cfg.Client, TTL: e.cfg.TTL, Logger: e.cfg.Logger,
		OnLease: func(ctx context.Context, lease int64) error {
			revision, err := e.elect(ctx, lease)
			if err != nil {
				return err
			}
			select {
			case office <- revision:
				return nil
			default:
				return fmt.Errorf("%w: %w", etcdkv.ErrFatal, ErrDeposed) // by another lease
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
		cancel(e.cfg.Term(ctx, revision))
	}
	<-held
	end, stop := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer stop()
	if err := session.Revoke(end); err != nil {
		e.cfg.Logger.Warn("the election's lease ends by itself", "name", e.cfg.Office, "error", err)
	}
	return context.Cause(ctx)
}

// elect makes the election's key this candidate's, and returns its revision.
func (e *Election) elect(ctx context.Context, lease int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	value, err := e.cfg.Value()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", etcdkv.ErrFatal, err)
	}
	r, err := e.cfg.Client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(e.cfg.Key), "=", 0)).
		Then(clientv3.OpPut(e.cfg.Key, value, clientv3.WithLease(clientv3.LeaseID(lease)))).
		Else(clientv3.OpGet(e.cfg.Key)).Commit()
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
