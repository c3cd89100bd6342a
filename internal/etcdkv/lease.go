package etcdkv

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
)

// errExchanged ends a hold whose keys hang on another lease now.
var errExchanged = errors.New("etcd lease exchanged for one with another TTL")

// grant gets a lease, however long it takes; its error is ctx's.
func (s *Session) grant(ctx context.Context) error {
	retry := backoff.Backoff{Max: 5 * time.Second}
	for late := 0; ; {
		began := time.Now()
		lease, held, err := s.ask(ctx, doubled(s.grantTimeout, late, grantTimeoutMax))
		if errors.Is(err, context.DeadlineExceeded) {
			late++
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			s.mu.Lock()
			s.lease.Store(lease)
			s.held = held
			s.mu.Unlock()
			return nil
		}
		s.missed(time.Since(began), err, false)
		if err := retry.Wait(ctx); err != nil {
			return err
		}
	}
}

// ask asks etcd once for a lease with the TTL that is wanted. The lease's ID is
// chosen here, so that one which was granted and whose answer was late is found
// by the next attempt: it would else live on for its TTL with nobody to hold it.
func (s *Session) ask(ctx context.Context, patience time.Duration) (lease int64, held tenure, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	held.asked = s.wanted()
	if s.open.id == 0 || s.open.ttl != held.asked {
		s.open = request{id: rand.Int64N(math.MaxInt64) + 1, ttl: held.asked} //nolint:gosec // unique, not secret
	}
	r, err := s.cfg.lease(ctx, s.open)
	switch {
	case errors.Is(err, rpctypes.ErrLeaseExist):
		// How much of it is left tells the first renewal.
		r = &pb.LeaseGrantResponse{ID: s.open.id, TTL: int64(held.asked / time.Second)}
	case err != nil:
		s.mu.Lock()
		s.count.Refused++
		s.mu.Unlock()
		return 0, held, fmt.Errorf("lease from etcd at %s: %w", Endpoints(s.cfg.Client), err)
	}
	s.open = request{}
	held.granted = time.Duration(r.TTL) * time.Second
	s.mu.Lock()
	s.count.Granted++
	s.mu.Unlock()
	s.cfg.Logger.Debug("etcd lease granted", "lease", fmt.Sprintf("%x", r.ID), "duration", time.Duration(r.TTL)*time.Second)
	return r.ID, held, nil
}

// request is for a lease that is not known to be granted; zero = there is none.
type request struct {
	id  int64
	ttl time.Duration
}

// lease asks for a lease by its ID, which the client's own Grant cannot.
func (cfg *SessionConfig) lease(ctx context.Context, r request) (*pb.LeaseGrantResponse, error) {
	res, err := clientv3.RetryLeaseClient(cfg.Client).LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: r.id, TTL: int64(r.ttl / time.Second)})
	if err != nil {
		return nil, linkOf(cfg.Client).explain(clientv3.ContextError(ctx, err))
	}
	return res, nil
}

// wanted is the TTL to ask for, in whole seconds.
func (s *Session) wanted() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return (s.want.ttl + time.Second - 1).Truncate(time.Second)
}

// attend has the keys of lease written, and exchanges it when another TTL is
// wanted: then its error is errExchanged. Any other is fatal or ctx's.
func (s *Session) attend(ctx context.Context, lease int64) error {
	s.mu.Lock()
	announced := s.held.announced
	s.mu.Unlock()
	if !announced {
		if err := s.announce(ctx, lease, time.Time{}); err != nil {
			return err
		}
		s.mu.Lock()
		s.held.announced = true
		s.mu.Unlock()
	}
	for {
		if s.misfits() {
			if err := s.exchange(ctx); err != nil {
				return err
			}
		}
		select {
		case <-s.retimed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// misfits reports whether the lease has another TTL than is wanted. etcd may
// grant a longer one than was asked for: that does not count.
func (s *Session) misfits() bool {
	want := s.wanted()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held.asked != 0 {
		return s.held.asked != want
	}
	return s.set && s.held.granted != 0 && s.held.granted != want
}

// exchange moves the keys of the lease that is held to a new one; nil means
// that there is no need any more. A crash before they have moved leaves a lease
// without keys, one after it the former lease without keys: either ends by
// itself.
func (s *Session) exchange(ctx context.Context) error {
	ttl, _ := s.Timing()
	if err := backoff.Sleep(ctx, backoff.Jitter(ttl/6, 1)); err != nil {
		return err
	}
	var retry backoff.Backoff
	for s.misfits() {
		next, held, err := s.ask(ctx, s.grantTimeout)
		if err == nil {
			// A move that was not answered may have been done all the same, so
			// the new lease is not revoked but tried again while it lives.
			s.mu.Lock()
			s.next = next
			s.mu.Unlock()
			err = s.announce(ctx, next, time.Now().Add(held.granted))
		}
		switch {
		case err == nil:
			held.announced = true
			s.mu.Lock()
			s.lease.Store(next)
			s.held, s.next = held, 0
			s.count.Exchanged++
			s.mu.Unlock()
			return errExchanged
		case errors.Is(err, ErrFatal):
			return err
		}
		s.cfg.Logger.Warn("the TTL of the etcd lease could not be changed yet", "error", err)
		if err := retry.Wait(ctx); err != nil {
			return err
		}
	}
	return s.stay(ctx)
}

// stay ends an exchange that is wanted no more: keys that have moved come back.
// The lease that they moved to is left to end by itself: where they are another
// process's now, they may hang on it still.
func (s *Session) stay(ctx context.Context) error {
	s.mu.Lock()
	moved := s.next != 0
	s.mu.Unlock()
	if !moved {
		return nil
	}
	return s.announce(ctx, s.Lease(), time.Time{})
}

// announce calls OnLease until it succeeds or deadline, unless zero, has
// passed; its error is fatal, that of the last attempt, or ctx's.
func (s *Session) announce(ctx context.Context, lease int64, deadline time.Time) error {
	var retry backoff.Backoff
	for {
		err := s.cfg.OnLease(ctx, lease)
		switch {
		case err == nil, errors.Is(err, ErrFatal):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			if !deadline.IsZero() {
				return err
			}
			s.Renew() // which finds out
		case !deadline.IsZero() && (time.Now().After(deadline) || !s.misfits()):
			return err
		}
		s.cfg.Logger.Warn("writing the keys of the etcd lease failed: trying again", "error", err)
		if err := retry.Wait(ctx); err != nil {
			return err
		}
	}
}

// retire revokes a lease whose keys have moved.
func (s *Session) retire(ctx context.Context, lease int64) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := s.revoke(ctx, lease); err != nil {
		s.cfg.Logger.Warn("the former etcd lease ends by itself", "error", err)
	}
}
