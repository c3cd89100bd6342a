package etcdkv

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
)

// Defaults of a Session.
const (
	DefaultTTL      = 30 * time.Second
	DefaultInterval = 5 * time.Second
)

// grantTimeout bounds one attempt to get a lease.
const grantTimeout = 5 * time.Second

// ErrFatal ends a Session: an OnLease that returns an error wrapping it is
// not called again, and Run returns that error.
var ErrFatal = errors.New("it will not get better by trying again")

// SessionConfig says how a lease is kept.
type SessionConfig struct {
	// Client is used, never closed. Required.
	Client *clientv3.Client
	// TTL is how long the lease outlives its last renewal; default 30 s, at
	// least 1 s; etcd counts whole seconds, fractions are rounded up.
	TTL time.Duration
	// Interval is the distance of renewals, jittered by a fifth; default 5 s
	// or a third of TTL, whichever is less; at most half of TTL.
	Interval time.Duration
	// Lease is a lease to resume, as handed over by another process; 0 means
	// that one is to be granted.
	Lease int64
	// OnLease is called once a lease is known to live: after each grant, and
	// after the first renewal of a lease that was handed over. It writes the
	// keys that hang on the lease. On error it is called again, with
	// back-off, while the lease is kept all the same; ErrFatal ends Run. Its
	// ctx ends when the lease is lost or Run ends. May be nil.
	OnLease func(ctx context.Context, lease int64) error
	// OnBeat is called after each attempt to renew (or to be granted) the
	// lease: with the round trip's time and nil, or the time waited in vain
	// and why. It must not block. May be nil.
	OnBeat func(latency time.Duration, err error)
	// Logger receives leases lost and gained; nil discards it.
	Logger *slog.Logger
}

// Session keeps one lease alive. After an outage it resumes the same lease,
// as long as etcd still knows it: only when etcd says that it is gone is
// another granted. Its methods may be called concurrently.
type Session struct {
	cfg         SessionConfig
	beatTimeout time.Duration
	started     atomic.Bool
	lease       atomic.Int64

	mu      sync.Mutex
	at      time.Time
	latency time.Duration
	err     error
}

// NewSession checks cfg and starts nothing.
func NewSession(cfg SessionConfig) (*Session, error) {
	if cfg.Client == nil {
		return nil, errors.New("etcd session: SessionConfig.Client is nil")
	}
	if cfg.TTL == 0 {
		cfg.TTL = DefaultTTL
	}
	if cfg.TTL < time.Second {
		return nil, fmt.Errorf("etcd session: TTL %s: want at least 1s, which is etcd's least", cfg.TTL)
	}
	if cfg.Interval == 0 {
		cfg.Interval = min(DefaultInterval, cfg.TTL/3)
	}
	if cfg.Interval < 0 || cfg.Interval > cfg.TTL/2 {
		return nil, fmt.Errorf("etcd session: interval %s with TTL %s: want at most half the TTL, so that one lost renewal does not lose the lease", cfg.Interval, cfg.TTL)
	}
	if cfg.OnLease == nil {
		cfg.OnLease = func(context.Context, int64) error { return nil }
	}
	if cfg.OnBeat == nil {
		cfg.OnBeat = func(time.Duration, error) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Session{cfg: cfg, beatTimeout: min(max(cfg.Interval, 3*time.Second), cfg.TTL/2)}
	s.lease.Store(cfg.Lease)
	return s, nil
}

// Lease returns the lease that is kept; 0 = none yet. It may have been lost
// without this side knowing yet: write with the lease, and etcd will refuse.
func (s *Session) Lease() int64 { return s.lease.Load() }

// LastBeat returns when etcd last renewed the lease (zero = never), the round
// trip's time, and what went wrong in attempts since; nil = nothing.
func (s *Session) LastBeat() (at time.Time, latency time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at, s.latency, s.err
}

// Revoke ends the lease, and with it its keys, at once. Call it after Run has
// returned: a Run that goes on would be granted another.
func (s *Session) Revoke(ctx context.Context) error {
	lease := s.lease.Swap(0)
	if lease == 0 {
		return nil
	}
	_, err := s.cfg.Client.Revoke(ctx, clientv3.LeaseID(lease))
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("revoke etcd lease %x: %w", lease, err)
	}
	return nil
}

// Run keeps the lease until ctx ends, and returns ctx's error, or until
// OnLease returns ErrFatal, and returns that. It does not revoke: the keys
// live on for the TTL, so that a successor can take the lease over. It can be
// called once.
func (s *Session) Run(ctx context.Context) error {
	if s.started.Swap(true) {
		return errors.New("etcd session: Run called twice")
	}
	// etcd answers a renewal through a member without a leader only when
	// asked to refuse it.
	ctx = clientv3.WithRequireLeader(ctx)
	for {
		if s.Lease() == 0 {
			if err := s.grant(ctx); err != nil {
				return err
			}
		}
		lease := s.Lease()
		err := s.hold(ctx, lease)
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return err
		}
		s.cfg.Logger.Warn("etcd lease lost: asking for another", "lease", fmt.Sprintf("%x", lease))
		s.lease.CompareAndSwap(lease, 0)
	}
}

// grant gets a lease, however long it takes; its error is ctx's.
func (s *Session) grant(ctx context.Context) error {
	retry := backoff.Backoff{Max: 5 * time.Second}
	for {
		began := time.Now()
		attempt, cancel := context.WithTimeout(ctx, grantTimeout)
		r, err := s.cfg.Client.Grant(attempt, int64((s.cfg.TTL+time.Second-1)/time.Second))
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			s.lease.Store(int64(r.ID))
			s.cfg.Logger.Debug("etcd lease granted", "lease", fmt.Sprintf("%x", int64(r.ID)), "ttl_seconds", r.TTL)
			return nil
		}
		s.beat(time.Since(began), fmt.Errorf("lease from etcd at %s: %w", Endpoints(s.cfg.Client), err))
		if err := retry.Wait(ctx); err != nil {
			return err
		}
	}
}

// beat records and reports one attempt.
func (s *Session) beat(latency time.Duration, err error) {
	s.mu.Lock()
	if s.err = err; err == nil {
		s.at, s.latency = time.Now(), latency
	}
	s.mu.Unlock()
	s.cfg.OnBeat(latency, err)
}
