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

// hold renews lease until it is lost (ErrLeaseNotFound), OnLease gives up
// (ErrFatal) or ctx ends. It joins what it started.
func (s *Session) hold(ctx context.Context, lease int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)

	retry := backoff.Backoff{Min: 100 * time.Millisecond, Max: time.Second}
	announce := sync.OnceFunc(func() {
		// In a goroutine of its own: keys that cannot be written must not
		// cost the lease.
		wg.Go(func() {
			if err := s.announce(ctx, lease); err != nil {
				cancel(err)
			}
		})
	})
	for {
		err := s.renew(ctx, lease, func() {
			retry.Reset()
			announce()
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

// announce calls OnLease until it succeeds; its error is fatal or ctx's.
func (s *Session) announce(ctx context.Context, lease int64) error {
	var retry backoff.Backoff
	for {
		err := s.cfg.OnLease(ctx, lease)
		if err == nil || errors.Is(err, ErrFatal) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.cfg.Logger.Warn("writing the keys of the etcd lease failed: trying again", "error", err)
		if err := retry.Wait(ctx); err != nil {
			return err
		}
	}
}

// renew opens a stream and beats on it until one beat fails. The stream is
// raw because the client's KeepAlive neither says how long a renewal took nor
// outlives an outage: it closes its channel while the lease still lives.
func (s *Session) renew(ctx context.Context, lease int64, alive func()) error {
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Recv has no deadline of its own: ending the stream is what ends it.
	timeout := time.AfterFunc(s.beatTimeout, cancel)
	defer timeout.Stop()

	began := time.Now()
	// Waiting for the connection makes the first renewal after an outage
	// happen the moment it is over.
	stream, err := clientv3.RetryLeaseClient(s.cfg.Client).LeaseKeepAlive(streamCtx, grpc.WaitForReady(true))
	for fresh := true; ; fresh = false {
		if err == nil {
			err = roundTrip(stream, lease)
		}
		elapsed := time.Since(began)
		inTime := timeout.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			err = s.explain(lease, err, inTime)
			// That a stream broke between two beats says nothing about etcd
			// now: the next one tells. That the lease is gone is an answer.
			if !errors.Is(err, rpctypes.ErrLeaseNotFound) && (fresh || !inTime) {
				s.beat(elapsed, err)
			}
			return err
		}
		s.beat(elapsed, nil)
		alive()
		if err := backoff.Sleep(ctx, backoff.Jitter(s.cfg.Interval, 0.2)); err != nil {
			return err
		}
		began = time.Now()
		timeout.Reset(s.beatTimeout)
	}
}

// roundTrip renews lease once.
func roundTrip(stream pb.Lease_LeaseKeepAliveClient, lease int64) error {
	// Where Send fails, Recv has the reason.
	_ = stream.Send(&pb.LeaseKeepAliveRequest{ID: lease})
	r, err := stream.Recv()
	if err != nil {
		return rpctypes.Error(err)
	}
	if r.TTL <= 0 {
		return rpctypes.ErrLeaseNotFound
	}
	return nil
}

func (s *Session) explain(lease int64, err error, inTime bool) error {
	where := Endpoints(s.cfg.Client)
	if !inTime {
		return fmt.Errorf("renew etcd lease %x: no answer from %s within %s", lease, where, s.beatTimeout)
	}
	return fmt.Errorf("renew etcd lease %x at %s: %w", lease, where, err)
}
