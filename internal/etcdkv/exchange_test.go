package etcdkv_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// TestChangedTTLMovesTheKeysAndNobodySeesThemGo: a fleet would otherwise drop
// out of the registry when its TTL is changed.
func TestChangedTTLMovesTheKeysAndNobodySeesThemGo(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	s, leases := presenceSession(t, etcdkv.SessionConfig{Client: c, TTL: 2 * time.Second, Interval: 50 * time.Millisecond})
	background(t, s.Run)
	first := waittest.Next(t, "lease", leases)
	_, created := leaseOf(t, c, presence)
	if err := s.Set(90*time.Second, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	second := waittest.Next(t, "another lease", leases)
	waittest.Nil(t, "the former lease is gone", func() error {
		ttl, err := c.TimeToLive(t.Context(), clientv3.LeaseID(first))
		if err == nil && ttl.TTL >= 0 {
			err = errors.New("it lives")
		}
		return err
	})
	if lease, rev := leaseOf(t, c, presence); lease != second || rev != created {
		t.Errorf("the key hangs on %x from revision %d: want %x, and that it was never deleted since %d", lease, rev, second, created)
	}
	if ttl, err := c.TimeToLive(t.Context(), clientv3.LeaseID(second)); err != nil || ttl.GrantedTTL != 90 {
		t.Errorf("the lease has a TTL of %d s (%v), want 90", ttl.GrantedTTL, err)
	}
	moved := time.Now()
	beatsSince(t, s, moved)
	if n := s.Counters(); s.Lease() != second || n.Exchanged != 1 || n.Lost != 0 || len(leases) != 0 {
		t.Errorf("lease %x, %+v, %d more calls of OnLease; want %x, one exchange, none lost, no call", s.Lease(), n, len(leases), second)
	}
	if err := s.Set(time.Second, time.Second); err == nil {
		t.Error("an interval as long as the TTL was accepted")
	}
}

// TestLeaseWhoseKeysCannotMoveIsKept: revoking it would delete the keys.
func TestLeaseWhoseKeysCannotMoveIsKept(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	var first, refused atomic.Int64
	s, err := etcdkv.NewSession(etcdkv.SessionConfig{
		Client: c, TTL: 2 * time.Second, Interval: 50 * time.Millisecond,
		OnLease: func(ctx context.Context, lease int64) error {
			if first.CompareAndSwap(0, lease) || first.Load() == lease {
				_, err := c.Put(ctx, presence, "here", clientv3.WithLease(clientv3.LeaseID(lease)))
				return err
			}
			refused.Add(1)
			return errors.New("the keys are another's")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	background(t, s.Run)
	waittest.Until(t, "the key is there", func() bool { l, _ := leaseOf(t, c, presence); return l != 0 })
	if err := s.Set(90*time.Second, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the move was tried twice", func() bool { return refused.Load() >= 2 })
	s.Settle()
	settled := refused.Load()
	now := time.Now()
	beatsSince(t, s, now)
	if l, _ := leaseOf(t, c, presence); l != first.Load() || s.Lease() != l {
		t.Errorf("the key hangs on %x and %x is kept, want %x", l, s.Lease(), first.Load())
	}
	if ttl, interval := s.Timing(); ttl > 10*time.Second || interval != 50*time.Millisecond {
		t.Errorf("after Settle the TTL is %v and the interval %v", ttl, interval)
	}
	if n := refused.Load(); n > settled+1 {
		t.Errorf("the move was tried %d times after Settle", n-settled)
	}
}

// TestHandedOverLeaseKeepsItsTTLUntilAsked: a successor on probation would
// otherwise revoke the lease under its incumbent's keys.
func TestHandedOverLeaseKeepsItsTTLUntilAsked(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	const ttl = 3 * time.Second
	granted, err := c.Grant(t.Context(), int64(ttl/time.Second))
	if err != nil {
		t.Fatal(err)
	}
	lease := int64(granted.ID)
	s, leases := presenceSession(t, etcdkv.SessionConfig{Client: c, TTL: 30 * time.Second, Interval: 20 * time.Millisecond, Lease: lease})
	background(t, s.Run)
	if got := waittest.Next(t, "lease", leases); got != lease {
		t.Fatalf("lease %x, want %x", got, lease)
	}
	// An exchange would begin within a third of the TTL.
	beatsSince(t, s, time.Now().Add(2*ttl/3))
	if now, _ := s.Timing(); s.Lease() != lease || now != ttl || s.Counters().Granted != 0 {
		t.Errorf("lease %x with TTL %v, %+v; want %x untouched", s.Lease(), now, s.Counters(), lease)
	}
}

// TestRenewFindsALostLeaseBeforeTheNextBeat: an operator who revokes a lease
// would otherwise wait for a beat to see the agent again.
func TestRenewFindsALostLeaseBeforeTheNextBeat(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	s, leases := presenceSession(t, etcdkv.SessionConfig{Client: c, TTL: time.Hour, Interval: 20 * time.Minute})
	background(t, s.Run)
	first := waittest.Next(t, "lease", leases)
	if _, err := c.Revoke(t.Context(), clientv3.LeaseID(first)); err != nil {
		t.Fatal(err)
	}
	s.Renew()
	if second := waittest.Next(t, "another lease", leases); second == first {
		t.Error("the lost lease was announced again")
	}
}

// TestRefusedGrantIsAskedForAgainWithPauses: agents whose etcd says that it has
// too many requests, or no space, would otherwise be its next fault.
func TestRefusedGrantIsAskedForAgainWithPauses(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	alarm := func(action pb.AlarmRequest_AlarmAction) {
		t.Helper()
		_, err := pb.NewMaintenanceClient(c.ActiveConnection()).Alarm(t.Context(), &pb.AlarmRequest{Action: action, Alarm: pb.AlarmType_NOSPACE})
		if err != nil {
			t.Fatal(err)
		}
	}
	alarm(pb.AlarmRequest_ACTIVATE)
	type refusal struct {
		at  time.Time
		err error
	}
	refused := make(chan refusal, 100)
	s, leases := presenceSession(t, etcdkv.SessionConfig{
		Client: c, TTL: 30 * time.Second, Interval: 50 * time.Millisecond,
		OnBeat: func(_ time.Duration, err error) {
			if err != nil {
				refused <- refusal{time.Now(), err}
			}
		},
	})
	background(t, s.Run)
	first := waittest.Next(t, "a refusal", refused)
	for least := 100 * time.Millisecond; least < time.Second; least *= 2 {
		next := waittest.Next(t, "another refusal", refused)
		if pause := next.at.Sub(first.at); pause < least {
			t.Errorf("asked again after %v, want at least %v: %v", pause, least, next.err)
		}
		first = next
	}
	alarm(pb.AlarmRequest_DEACTIVATE)
	waittest.Next(t, "a lease once etcd grants", leases)
	if n := s.Counters(); n.Refused < 5 || n.Granted != 1 {
		t.Errorf("%+v, want at least 5 refused and 1 granted", n)
	}
}

// TestStopDuringAnExchangeEndsBothLeases: the keys of a stopped agent would
// stay in the registry for a TTL where they had moved already.
func TestStopDuringAnExchangeEndsBothLeases(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	moved := make(chan int64, 1)
	var first atomic.Int64
	s, err := etcdkv.NewSession(etcdkv.SessionConfig{
		Client: c, TTL: 2 * time.Second, Interval: 50 * time.Millisecond,
		OnLease: func(ctx context.Context, lease int64) error {
			_, err := c.Put(ctx, presence, "here", clientv3.WithLease(clientv3.LeaseID(lease)))
			if err != nil || first.CompareAndSwap(0, lease) {
				return err
			}
			moved <- lease
			<-ctx.Done() // etcd has done it, and its answer does not come
			return ctx.Err()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	waittest.Until(t, "the key is there", func() bool { l, _ := leaseOf(t, c, presence); return l != 0 })
	if err := s.Set(10*time.Minute, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	second := waittest.Next(t, "the move", moved)
	cancel()
	if err := waittest.Next(t, "the end", ended); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := s.Revoke(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l, _ := leaseOf(t, c, presence); l != 0 {
		t.Errorf("the key is there still, on lease %x of %x and %x", l, first.Load(), second)
	}
	all, err := c.Leases(t.Context())
	if err != nil || len(all.Leases) != 0 {
		t.Errorf("leases that live: %v, %v", all, err)
	}
}

// TestTTLThatIsSetBackDuringAMoveHasTheKeysMovedBack: some of them would hang on
// a lease that nobody renews, and go with it.
func TestTTLThatIsSetBackDuringAMoveHasTheKeysMovedBack(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	var first, tried atomic.Int64
	s, err := etcdkv.NewSession(etcdkv.SessionConfig{
		Client: c, TTL: 2 * time.Second, Interval: 50 * time.Millisecond,
		OnLease: func(ctx context.Context, lease int64) error {
			_, err := c.Put(ctx, presence, "here", clientv3.WithLease(clientv3.LeaseID(lease)))
			if err != nil || first.CompareAndSwap(0, lease) || first.Load() == lease {
				return err
			}
			tried.Add(1)
			return errors.New("the other half cannot be moved")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	background(t, s.Run)
	waittest.Until(t, "the key is there", func() bool { l, _ := leaseOf(t, c, presence); return l != 0 })
	if err := s.Set(10*time.Minute, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "a half has moved", func() bool { return tried.Load() > 0 })
	if err := s.Set(2*time.Second, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the key is back", func() bool {
		l, _ := leaseOf(t, c, presence)
		return l == first.Load() && s.Lease() == l
	})
}
