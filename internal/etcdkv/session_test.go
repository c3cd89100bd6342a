package etcdkv_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

const presence = "/agents/registry/a1"

// presenceSession keeps a lease with the key presence on it, and sends each
// lease for which the key was written.
func presenceSession(t *testing.T, cfg etcdkv.SessionConfig) (*etcdkv.Session, <-chan int64) {
	t.Helper()
	leases := make(chan int64, 100)
	cfg.OnLease = func(ctx context.Context, lease int64) error {
		_, err := cfg.Client.Put(ctx, presence, "here", clientv3.WithLease(clientv3.LeaseID(lease)))
		if err == nil {
			leases <- lease
		}
		return err
	}
	s, err := etcdkv.NewSession(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, leases
}

func leaseOf(t *testing.T, c *clientv3.Client, key string) (lease, created int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Patience)
	defer cancel()
	r, err := c.Get(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Kvs) == 0 {
		return 0, 0
	}
	return r.Kvs[0].Lease, r.Kvs[0].CreateRevision
}

// beatsSince waits for a good beat after that moment.
func beatsSince(t *testing.T, s *etcdkv.Session, moment time.Time) {
	t.Helper()
	waittest.Until(t, "a good beat", func() bool {
		at, _, err := s.LastBeat()
		return err == nil && at.After(moment)
	})
}

// TestLostLeaseIsGrantedAnew: an agent whose lease expired or was revoked
// would otherwise stay out of the registry for ever.
func TestLostLeaseIsGrantedAnew(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	s, leases := presenceSession(t, etcdkv.SessionConfig{Client: c, TTL: 30 * time.Second, Interval: 50 * time.Millisecond})
	background(t, s.Run)
	first := waittest.Next(t, "first lease", leases)
	if _, err := c.Revoke(t.Context(), clientv3.LeaseID(first)); err != nil {
		t.Fatal(err)
	}
	second := waittest.Next(t, "second lease", leases)
	if second == first || s.Lease() != second {
		t.Errorf("want another lease than %x, got %x, session says %x", first, second, s.Lease())
	}
	if lease, _ := leaseOf(t, c, presence); lease != second {
		t.Errorf("the key hangs on lease %x: want %x", lease, second)
	}
}

// TestOutageShorterThanTTLKeepsLease: a fleet would otherwise drop out of the
// registry, and register anew all at once, after every short cut.
func TestOutageShorterThanTTLKeepsLease(t *testing.T) {
	server := etcdtest.Start(t)
	direct := server.Client(t)
	for name, outage := range map[string]func(p *etcdtest.Proxy){
		"connections broken": (*etcdtest.Proxy).Cut,
		"packets dropped":    (*etcdtest.Proxy).Freeze,
	} {
		t.Run(name, func(t *testing.T) {
			proxy := server.Proxy(t)
			failed := make(chan error, 100)
			s, leases := presenceSession(t, etcdkv.SessionConfig{
				Client: proxy.Client(t), TTL: 20 * time.Second, Interval: 50 * time.Millisecond,
				OnBeat: func(_ time.Duration, err error) {
					if err != nil {
						failed <- err
					}
				},
			})
			background(t, s.Run)
			lease := waittest.Next(t, "lease", leases)
			_, created := leaseOf(t, direct, presence)

			outage(proxy)
			if err := waittest.Next(t, "a failed beat", failed); !strings.Contains(err.Error(), proxy.URL()) {
				t.Errorf("want an error that names %s, got %v", proxy.URL(), err)
			}
			proxy.Heal()
			healed := time.Now()
			beatsSince(t, s, healed)
			if l, c := leaseOf(t, direct, presence); l != lease || c != created {
				t.Errorf("want the key untouched on lease %x from revision %d, found %x, %d", lease, created, l, c)
			}
			if s.Lease() != lease || len(leases) != 0 {
				t.Errorf("want lease %x resumed, got %x and %d rewrites", lease, s.Lease(), len(leases))
			}
		})
	}
}

// TestEtcdRestartKeepsLease: upgrading etcd would otherwise empty the registry.
func TestEtcdRestartKeepsLease(t *testing.T) {
	server := etcdtest.Start(t)
	s, leases := presenceSession(t, etcdkv.SessionConfig{Client: server.Client(t), TTL: 30 * time.Second, Interval: 50 * time.Millisecond})
	background(t, s.Run)
	lease := waittest.Next(t, "lease", leases)
	for range 2 {
		server.Restart()
		restarted := time.Now()
		beatsSince(t, s, restarted)
	}
	if s.Lease() != lease || len(leases) != 0 {
		t.Errorf("want lease %x resumed, got %x and %d rewrites", lease, s.Lease(), len(leases))
	}
}

// TestEmptiedEtcdIsRegisteredInAgain: after a loss of all data the agents are
// what fills the registry again.
func TestEmptiedEtcdIsRegisteredInAgain(t *testing.T) {
	server := etcdtest.Start(t)
	s, leases := presenceSession(t, etcdkv.SessionConfig{Client: server.Client(t), TTL: 30 * time.Second, Interval: 50 * time.Millisecond})
	background(t, s.Run)
	waittest.Next(t, "lease", leases)
	server.Wipe()
	lease := waittest.Next(t, "lease in the new cluster", leases)
	if l, _ := leaseOf(t, server.Client(t), presence); l != lease {
		t.Errorf("the key hangs on lease %x: want %x", l, lease)
	}
}

// TestHandedOverLeaseIsResumed: an agent would otherwise leave the registry
// for a moment at each swap of its binary, or start without a lease when the
// one handed over is gone.
func TestHandedOverLeaseIsResumed(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	ctx, cancel := context.WithCancel(t.Context())
	incumbent, leases := presenceSession(t, etcdkv.SessionConfig{Client: c, TTL: 30 * time.Second, Interval: 50 * time.Millisecond})
	done := make(chan error, 1)
	go func() { done <- incumbent.Run(ctx) }()
	lease := waittest.Next(t, "lease", leases)
	_, created := leaseOf(t, c, presence)

	t.Run("alive", func(t *testing.T) {
		successor, taken := presenceSession(t, etcdkv.SessionConfig{Client: c, Lease: lease, TTL: 30 * time.Second, Interval: 50 * time.Millisecond})
		background(t, successor.Run)
		if got := waittest.Next(t, "lease", taken); got != lease {
			t.Errorf("want lease %x resumed, got %x", lease, got)
		}
		cancel()
		if err := waittest.Next(t, "incumbent's Run returns", done); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if l, rev := leaseOf(t, c, presence); l != lease || rev != created {
			t.Errorf("the key left the registry: lease %x from revision %d, want %x, %d", l, rev, lease, created)
		}
	})
	t.Run("gone", func(t *testing.T) {
		if err := incumbent.Revoke(t.Context()); err != nil {
			t.Fatal(err)
		}
		if l, _ := leaseOf(t, c, presence); l != 0 {
			t.Error("Revoke left the key")
		}
		successor, taken := presenceSession(t, etcdkv.SessionConfig{Client: c, Lease: lease, TTL: 30 * time.Second, Interval: 50 * time.Millisecond})
		background(t, successor.Run)
		if got := waittest.Next(t, "lease", taken); got == lease {
			t.Errorf("want another lease than %x, which is gone", lease)
		}
	})
}

// TestKeysThatCannotBeWrittenDoNotCostTheLease: a slow or refused write must
// not stop the renewals.
func TestKeysThatCannotBeWrittenDoNotCostTheLease(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	var calls, beats atomic.Int64
	s, err := etcdkv.NewSession(etcdkv.SessionConfig{
		Client: c, TTL: 2 * time.Second, Interval: 20 * time.Millisecond,
		OnLease: func(ctx context.Context, _ int64) error {
			if calls.Add(1) < 3 {
				return errors.New("not now")
			}
			<-ctx.Done()
			return ctx.Err()
		},
		OnBeat: func(time.Duration, error) { beats.Add(1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	background(t, s.Run)
	waittest.Until(t, "tried again", func() bool { return calls.Load() == 3 })
	seen, lease := beats.Load(), s.Lease()
	waittest.Until(t, "beats go on", func() bool { return beats.Load() > seen+10 })
	if s.Lease() != lease {
		t.Errorf("lease %x became %x", lease, s.Lease())
	}
}

// TestFatalErrorEndsRun: a second agent with the same id would otherwise try
// for ever in silence.
func TestFatalErrorEndsRun(t *testing.T) {
	s, err := etcdkv.NewSession(etcdkv.SessionConfig{
		Client:  etcdtest.Start(t).Client(t),
		OnLease: func(context.Context, int64) error { return fmt.Errorf("id a1 is taken: %w", etcdkv.ErrFatal) },
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }()
	if err := waittest.Next(t, "Run returns", done); !errors.Is(err, etcdkv.ErrFatal) || !strings.Contains(err.Error(), "id a1 is taken") {
		t.Errorf("want the fatal error, got %v", err)
	}
}

// TestUnreachableEtcdIsReported: an agent without etcd would otherwise look
// healthy.
func TestUnreachableEtcdIsReported(t *testing.T) {
	server := etcdtest.Start(t)
	server.Stop()
	failed := make(chan error, 100)
	s, leases := presenceSession(t, etcdkv.SessionConfig{
		Client: server.Client(t), TTL: 30 * time.Second, Interval: 50 * time.Millisecond,
		OnBeat: func(_ time.Duration, err error) {
			if err != nil {
				failed <- err
			}
		},
	})
	background(t, s.Run)
	if err := waittest.Next(t, "a failure", failed); !strings.Contains(err.Error(), server.URL()) {
		t.Errorf("want an error that names %s, got %v", server.URL(), err)
	}
	if _, _, err := s.LastBeat(); err == nil || s.Lease() != 0 {
		t.Errorf("want an error and no lease, got %v and %x", err, s.Lease())
	}
	server.Restart()
	waittest.Next(t, "lease once etcd is there", leases)
}

func TestNewSessionRefusesWhatCannotWork(t *testing.T) {
	c := dial(t, etcdkv.ClientConfig{Endpoints: []string{"127.0.0.1:1"}})
	for name, cfg := range map[string]etcdkv.SessionConfig{
		"no client":                          {},
		"TTL below what etcd can":            {Client: c, TTL: 500 * time.Millisecond},
		"negative interval":                  {Client: c, Interval: -1},
		"one lost beat would lose the lease": {Client: c, TTL: 10 * time.Second, Interval: 6 * time.Second},
	} {
		if _, err := etcdkv.NewSession(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestLeaseWhoseGrantWasAnsweredTooLateIsTheOneThatIsKept: a fleet that asks an
// etcd which is slow again and again would otherwise leave it a heap of leases
// that nobody holds.
func TestLeaseWhoseGrantWasAnsweredTooLateIsTheOneThatIsKept(t *testing.T) {
	server := etcdtest.Start(t)
	direct := server.Client(t)
	proxy := server.Proxy(t)
	failed := make(chan error, 100)
	c := proxy.Client(t)
	s, leases := presenceSession(t, etcdkv.SessionConfig{
		Client: c, TTL: 10 * time.Minute, Interval: 50 * time.Millisecond,
		OnBeat: func(_ time.Duration, err error) {
			if err != nil {
				failed <- err
			}
		},
	})
	s.SetGrantTimeout(100 * time.Millisecond)
	if _, err := c.Get(t.Context(), presence); err != nil { // it is connected
		t.Fatal(err)
	}
	proxy.Delay(etcdtest.ToClient, time.Second)
	background(t, s.Run)
	if err := waittest.Next(t, "a grant that is not answered in time", failed); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the first attempt ended with %v", err)
	}
	granted := func() int {
		r, err := direct.Leases(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(r.Leases)
	}
	waittest.Until(t, "the grant that was given up", func() bool { return granted() > 0 })
	_ = waittest.Next(t, "another that is not answered in time", failed)
	proxy.Heal()
	lease := waittest.Next(t, "a lease", leases)
	if n := granted(); n != 1 {
		t.Errorf("etcd has %d leases, one of which is kept", n)
	}
	if on, _ := leaseOf(t, direct, presence); on != lease || s.Lease() != lease {
		t.Errorf("the key is on lease %x and the session keeps %x: want %x", on, s.Lease(), lease)
	}
	beatsSince(t, s, time.Now())
	if ttl, _ := s.Timing(); ttl != 10*time.Minute {
		t.Errorf("the lease has a TTL of %v", ttl)
	}
}

// TestALeaseDoesNotStandAnyMoreWhenItsKeysGo: who must not act once the registry may
// have given it up would act uncounted.
func TestALeaseDoesNotStandAnyMoreWhenItsKeysGo(t *testing.T) {
	server := etcdtest.Start(t)
	proxy := server.Proxy(t)
	direct := server.Client(t)
	s, leases := presenceSession(t, etcdkv.SessionConfig{Client: proxy.Client(t), TTL: 2 * time.Second, Interval: 200 * time.Millisecond})
	stands := func() bool { _, yes := s.Renewed(); return yes }
	if stands() {
		t.Error("a lease stands that there is not yet")
	}
	gone := direct.Watch(t.Context(), presence)
	background(t, s.Run)
	waittest.Next(t, "the lease", leases)
	waittest.Until(t, "the lease stands", stands)
	proxy.Freeze()
	for {
		r := waittest.Next(t, "the key goes", gone)
		if err := r.Err(); err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(r.Events, func(e *clientv3.Event) bool { return e.Type == clientv3.EventTypeDelete }) {
			continue
		}
		if stands() {
			t.Error("etcd has ended the lease, and it is said to stand")
		}
		break
	}
	proxy.Heal()
	waittest.Until(t, "another lease stands", stands)
}
