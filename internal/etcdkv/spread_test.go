package etcdkv_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// listings notes when a client asks for listings.
type listings struct {
	mu sync.Mutex
	at []time.Time
}

func (l *listings) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if method == pb.KV_Txn_FullMethodName {
		l.mu.Lock()
		l.at = append(l.at, time.Now())
		l.mu.Unlock()
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

func (l *listings) client(t *testing.T, url string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{url}, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(l.intercept)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (l *listings) since(moment time.Time) []time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.at), func(at time.Time) bool { return at.Before(moment) })
}

// TestWatchesOfAFleetDoNotListAtTheSameInstant: what has broken all watches
// at once would otherwise have all of them read everything at once.
func TestWatchesOfAFleetDoNotListAtTheSameInstant(t *testing.T) {
	const n = 200
	for name, harm := range map[string]func(t *testing.T, direct *clientv3.Client, p *etcdtest.Proxy){
		"connection lost": func(_ *testing.T, _ *clientv3.Client, p *etcdtest.Proxy) {
			p.Cut()
			p.Heal()
		},
		"compaction": func(t *testing.T, direct *clientv3.Client, p *etcdtest.Proxy) {
			t.Helper()
			p.Cut()
			put(t, direct, "/one", "2")
			if _, err := direct.Compact(t.Context(), put(t, direct, "/one", "3")); err != nil {
				t.Fatal(err)
			}
			p.Heal()
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := etcdtest.Start(t)
			direct, proxy := server.Client(t), server.Proxy(t)
			put(t, direct, "/one", "1")
			var l listings
			c := l.client(t, proxy.URL())
			var told sync.WaitGroup
			told.Add(n)
			for range n {
				w, err := etcdkv.NewWatch(etcdkv.WatchConfig{Client: c, Keys: []string{"/one"}, OnChange: func() func(etcdkv.View) {
					first := sync.OnceFunc(told.Done)
					return func(etcdkv.View) { first() }
				}()})
				if err != nil {
					t.Fatal(err)
				}
				background(t, w.Run)
			}
			told.Wait()
			began := time.Now()
			harm(t, direct, proxy)
			waittest.Until(t, fmt.Sprintf("%d listings", n), func() bool { return len(l.since(began)) >= n })
			at := l.since(began)[:n]
			// The middle half, which neither a straggler nor one that was
			// early can move.
			if middle := at[3*n/4].Sub(at[n/4]); middle < 200*time.Millisecond {
				t.Errorf("half of the listings in %s: want them spread over a second", middle)
			}
			if all := at[n-1].Sub(at[0]); all > 3*time.Second {
				t.Errorf("the last listing %s after the first: an agent must not be late that long", all)
			}
		})
	}
}

// TestSlowEtcdIsWaitedForLongerEachTime: a fleet that asks again before etcd
// can have answered keeps it from ever answering.
func TestSlowEtcdIsWaitedForLongerEachTime(t *testing.T) {
	server := etcdtest.Start(t)
	var l listings
	c := l.client(t, server.URL())
	put(t, c, "/one", "1") // it is connected from now on
	o := &observer{}
	w, err := etcdkv.NewWatch(etcdkv.WatchConfig{Client: c, Keys: []string{"/one"}, OnChange: o.change, OnError: o.fail})
	if err != nil {
		t.Fatal(err)
	}
	const first, most = 50 * time.Millisecond, 800 * time.Millisecond
	w.SetPatience(first, most)
	w.SetSpread(time.Millisecond, time.Millisecond, time.Millisecond)
	server.Pause()
	background(t, w.Run)
	waittest.Until(t, "seven listings", func() bool { return len(l.since(time.Time{})) >= 7 })
	at := l.since(time.Time{})
	for i, want := range []time.Duration{first, 2 * first, 4 * first, 8 * first, most, most} {
		if gap := at[i+1].Sub(at[i]); gap < want {
			t.Errorf("listing %d came %s after the one before: want at least %s", i+2, gap, want)
		}
	}
	server.Resume()
	waittest.Until(t, "the view", o.has(map[string]string{"/one": "1"}))
	waittest.Until(t, "the error is withdrawn", func() bool { return !o.failing() })
}
