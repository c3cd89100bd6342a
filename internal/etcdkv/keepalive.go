package etcdkv

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/perennial-go/perennial/internal/backoff"
)

// hold renews lease until it is lost (ErrLeaseNotFound) or exchanged
// (errExchanged), OnLease gives up (ErrFatal) or ctx ends. It joins what it
// started.
func (s *Session) hold(ctx context.Context, lease int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)

	// In a goroutine of its own: keys that cannot be written must not cost the
	// lease.
	attend := sync.OnceFunc(func() {
		wg.Go(func() {
			if err := s.attend(ctx, lease); err != nil {
				cancel(err)
			}
		})
	})
	retry := backoff.Backoff{Min: 100 * time.Millisecond, Max: time.Second}
	for missed := 0; ; missed++ {
		err := s.renew(ctx, lease, missed, func() {
			retry.Reset()
			missed = -1 // the stream that breaks now is the first
			attend()
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return err
		}
		_ = retry.Wait(ctx)
	}
}

// renew opens a stream and beats on it until one beat fails. The stream is
// raw because the client's KeepAlive neither says how long a renewal took nor
// outlives an outage: it closes its channel while the lease still lives. missed
// is how many streams before this one gave no answer.
func (s *Session) renew(ctx context.Context, lease int64, missed int, alive func()) error {
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Recv has no deadline of its own: ending the stream is what ends it.
	limit := s.beatTimeout(missed)
	timeout := time.AfterFunc(limit, cancel)
	defer timeout.Stop()

	began := time.Now()
	// Waiting for the connection makes the first renewal after an outage
	// happen the moment it is over.
	stream, err := clientv3.RetryLeaseClient(s.cfg.Client).LeaseKeepAlive(streamCtx, grpc.WaitForReady(true))
	for fresh := true; ; fresh = false {
		var ttl time.Duration
		if err == nil {
			ttl, err = roundTrip(stream, lease)
		}
		elapsed := time.Since(began)
		inTime := timeout.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			err = s.explain(lease, err, inTime, limit)
			// That a stream broke between two beats says nothing about etcd
			// now: the next one tells. That the lease is gone is an answer.
			if !errors.Is(err, rpctypes.ErrLeaseNotFound) && (fresh || !inTime) {
				s.missed(elapsed, err, true)
			}
			return err
		}
		s.renewed(began, elapsed, ttl)
		alive()
		if err := s.rest(ctx); err != nil {
			return err
		}
		began, limit = time.Now(), s.beatTimeout(0)
		timeout.Reset(limit)
	}
}

// rest waits for the next beat, or until Renew asks for one.
func (s *Session) rest(ctx context.Context) error {
	_, interval := s.Timing()
	t := time.NewTimer(backoff.Jitter(interval, 0.2))
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.now:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// beatTimeout is how long an answer to a renewal is waited for: two that fail
// do not cost the lease. After missed ones it is longer: a fleet that asks anew
// before an etcd that cannot keep up has answered keeps it from ever answering.
func (s *Session) beatTimeout(missed int) time.Duration {
	ttl, interval := s.Timing()
	return doubled(min(max(interval, 3*time.Second), ttl/2), missed, ttl/2)
}

// doubled is d, doubled so many times, but not above most.
func doubled(d time.Duration, times int, most time.Duration) time.Duration {
	for ; times > 0 && d < most; times-- {
		d *= 2
	}
	return min(d, most)
}

// roundTrip renews lease once and returns its TTL.
func roundTrip(stream pb.Lease_LeaseKeepAliveClient, lease int64) (time.Duration, error) {
	// Where Send fails, Recv has the reason.
	_ = stream.Send(&pb.LeaseKeepAliveRequest{ID: lease})
	r, err := stream.Recv()
	if err != nil {
		return 0, rpctypes.Error(err)
	}
	if r.TTL <= 0 {
		return 0, rpctypes.ErrLeaseNotFound
	}
	return time.Duration(r.TTL) * time.Second, nil
}

func (s *Session) explain(lease int64, err error, inTime bool, limit time.Duration) error {
	where := Endpoints(s.cfg.Client)
	if !inTime {
		return fmt.Errorf("renew etcd lease %x: no answer from %s within %s", lease, where, limit)
	}
	return fmt.Errorf("renew etcd lease %x at %s: %w", lease, where, err)
}

// renewed records and reports a renewal.
func (s *Session) renewed(sent time.Time, latency, ttl time.Duration) {
	s.mu.Lock()
	if s.last.renewal || (s.held.asked == 0 && s.held.granted == 0) {
		s.count.Resumed++
	}
	s.held.granted, s.held.sent = ttl, sent
	s.last = beat{at: time.Now(), latency: latency}
	s.mu.Unlock()
	s.cfg.OnBeat(latency, nil)
}

// missed records and reports an attempt to renew or to be granted a lease that
// failed.
func (s *Session) missed(latency time.Duration, err error, renewal bool) {
	s.mu.Lock()
	s.last.err, s.last.renewal = err, renewal
	s.mu.Unlock()
	s.cfg.OnBeat(latency, err)
}
