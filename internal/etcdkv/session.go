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
)

// Defaults of a Session.
const (
	DefaultTTL      = 30 * time.Second
	DefaultInterval = 5 * time.Second
)

// grantTimeout bounds one attempt to get a lease. Where etcd did not answer
// within it, the next ones have more, up to grantTimeoutMax.
const (
	grantTimeout    = 5 * time.Second
	grantTimeoutMax = 40 * time.Second
)

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
	// or a third of TTL, whichever is less; at most half of TTL. Set changes
	// both while Run runs.
	Interval time.Duration
	// Lease is a lease to resume, as handed over by another process; 0 means
	// that one is to be granted.
	Lease int64
	// OnLease is called once a lease is known to live: after each grant, and
	// after the first renewal of a lease that was handed over. It writes the
	// keys that hang on the lease. Where another lease lives still (see Set), it
	// moves all of them: that one is revoked once OnLease has returned nil. On
	// error it is called again, with back-off, while the lease is kept all the
	// same; ErrFatal ends Run. Its ctx ends when the lease is lost or Run ends.
	// May be nil.
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
	cfg     SessionConfig
	started atomic.Bool
	lease   atomic.Int64
	now     chan struct{} // asks for a renewal at once
	retimed chan struct{} // tells that Set was called
	open    request       // of the one goroutine that asks for leases

	grantTimeout time.Duration

	mu    sync.Mutex
	want  timing // as configured or set
	set   bool   // want is not only what NewSession was told
	held  tenure // of the lease
	next  int64  // to which an exchange may have moved the keys; 0 = none
	last  beat
	count SessionCounters
}

// timing is how a lease is to be kept.
type timing struct{ ttl, interval time.Duration }

// tenure is what is known of the lease that is held.
type tenure struct {
	asked     time.Duration // the TTL that it was asked for with; 0 = by another process
	granted   time.Duration // its TTL as etcd tells it; 0 = not known yet
	announced bool          // OnLease has succeeded
	sent      time.Time     // when the last renewal that was answered was sent
}

type beat struct {
	at      time.Time
	latency time.Duration
	err     error
	renewal bool // the failure is that of a renewal
}

// SessionCounters count from NewSession on.
type SessionCounters struct {
	// Granted and Lost count leases that etcd gave and that it has told to be
	// gone; Exchanged those that were replaced for the sake of another TTL.
	Granted, Lost, Exchanged int64
	// Resumed counts outages that the lease outlived, and a lease that was
	// handed over.
	Resumed int64
	// Refused counts requests for a lease that failed.
	Refused int64
}

// NewSession checks cfg and starts nothing.
func NewSession(cfg SessionConfig) (*Session, error) {
	if cfg.Client == nil {
		return nil, errors.New("etcd session: SessionConfig.Client is nil")
	}
	want, err := checkTiming(cfg.TTL, cfg.Interval)
	if err != nil {
		return nil, err
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
	s := &Session{cfg: cfg, want: want, now: make(chan struct{}, 1), retimed: make(chan struct{}, 1), grantTimeout: grantTimeout}
	s.lease.Store(cfg.Lease)
	return s, nil
}

// checkTiming fills in defaults.
func checkTiming(ttl, interval time.Duration) (timing, error) {
	if ttl == 0 {
		ttl = DefaultTTL
	}
	if ttl < time.Second {
		return timing{}, fmt.Errorf("etcd session: TTL %s: want at least 1s, which is etcd's least", ttl)
	}
	if interval == 0 {
		interval = min(DefaultInterval, ttl/3)
	}
	if interval < 0 || interval > ttl/2 {
		return timing{}, fmt.Errorf("etcd session: interval %s with TTL %s: want at most half the TTL, so that one lost renewal does not lose the lease", interval, ttl)
	}
	return timing{ttl, interval}, nil
}

// Set changes TTL and Interval, with the defaults and bounds of SessionConfig.
// The interval counts from now on. etcd cannot change the TTL of a lease: some
// time later, at most a third of the TTL in force, so that a fleet spreads
// itself, Run asks for another lease, has OnLease move the keys to it, and
// revokes the one before. Where that does not succeed, the one before is kept
// and it is tried again, until Settle. A lease that was handed over is left as
// it is until Set is called.
func (s *Session) Set(ttl, interval time.Duration) error {
	want, err := checkTiming(ttl, interval)
	if err != nil {
		return err
	}
	s.mu.Lock()
	changed := s.want != want || !s.set
	s.want, s.set = want, true
	s.mu.Unlock()
	if changed {
		ring(s.retimed)
		s.Renew()
	}
	return nil
}

// Settle takes back what Set has asked for of the TTL and has not happened yet.
func (s *Session) Settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.held.asked != 0:
		s.want.ttl = s.held.asked
	case s.held.granted != 0:
		s.want.ttl, s.set = s.held.granted, false
	}
	s.want.interval = min(s.want.interval, s.want.ttl/2)
}

// Timing returns how long the lease lives without renewals and how far apart
// they are, as they are now.
func (s *Session) Timing() (ttl, interval time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ttl = s.held.granted; ttl == 0 {
		ttl = s.want.ttl
	}
	return ttl, min(s.want.interval, ttl/2)
}

// Renew has the lease renewed now instead of at the next beat: for one who has
// reason to think that it is gone. It does not wait.
func (s *Session) Renew() { ring(s.now) }

// ring wakes the one that listens, once however often it is rung.
func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// Counters returns what has happened so far.
func (s *Session) Counters() SessionCounters {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Lease returns the lease that is kept; 0 = none yet. It may have been lost
// without this side knowing yet: write with the lease, and etcd will refuse.
func (s *Session) Lease() int64 { return s.lease.Load() }

// LastBeat returns when etcd last renewed the lease (zero = never), the round
// trip's time, and what went wrong in attempts since; nil = nothing.
func (s *Session) LastBeat() (at time.Time, latency time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last.at, s.last.latency, s.last.err
}

// Renewed tells how long ago the last renewal was sent that was answered, and
// whether the lease lives for certain, unless somebody has revoked it: whether that
// is less than its TTL. Time counts by the clock that nobody sets, and by the one
// that goes on while the machine is suspended, whichever says more.
func (s *Session) Renewed() (ago time.Duration, stands bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held.sent.IsZero() {
		return 0, false
	}
	now := time.Now()
	ago = max(now.Sub(s.held.sent), now.Round(0).Sub(s.held.sent.Round(0)))
	return ago, ago < s.held.granted
}

// Revoke ends the lease, and one that an exchange was about to replace it by,
// and with them their keys, at once. Call it after Run has returned: a Run that
// goes on would be granted another.
func (s *Session) Revoke(ctx context.Context) error {
	s.mu.Lock()
	next := s.next
	s.next = 0
	s.mu.Unlock()
	return errors.Join(s.revoke(ctx, s.lease.Swap(0)), s.revoke(ctx, next))
}

func (s *Session) revoke(ctx context.Context, lease int64) error {
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
		switch {
		case errors.Is(err, errExchanged):
			s.retire(ctx, lease)
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			s.cfg.Logger.Warn("etcd lease lost: asking for another", "lease", fmt.Sprintf("%x", lease))
			s.lose(lease)
		default:
			return err
		}
	}
}

// lose forgets a lease that etcd does not know.
func (s *Session) lose(lease int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lease.CompareAndSwap(lease, 0)
	s.held = tenure{}
	s.last.renewal = false
	s.count.Lost++
}
