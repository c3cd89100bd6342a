package etcdkv_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// fill puts n keys below prefix, each with value, in few transactions.
func fill(t *testing.T, c *clientv3.Client, prefix string, n int, value string) {
	t.Helper()
	for from := 0; from < n; from += 128 {
		var ops []clientv3.Op
		for i := from; i < min(from+128, n); i++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s%06d", prefix, i), value))
		}
		if _, err := c.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHundredThousandKeysAreListed: what somebody put under a prefix by
// mistake must not keep an agent from what belongs there.
func TestHundredThousandKeysAreListed(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	const junk = 100_000
	fill(t, c, "/many/", junk, "junk")
	put(t, c, "/many/z", "expected")
	views := make(chan int, 10)
	w, err := etcdkv.NewWatch(etcdkv.WatchConfig{
		Client: c, Prefixes: []string{"/many/"},
		OnChange: func(v etcdkv.View) {
			if string(v.Values["/many/z"].Data) == "expected" {
				views <- len(v.Values)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	background(t, w.Run)
	if n := waittest.Next(t, "a view", views); n != junk+1 {
		t.Errorf("want %d keys, found %d", junk+1, n)
	}
	remove(t, c, "/many/000000")
	if n := waittest.Next(t, "the next view", views); n != junk {
		t.Errorf("want %d keys, found %d", junk, n)
	}
}

// TestPagesOfAListingAreOfOneRevision: a view put together from several
// states of the store never existed.
func TestPagesOfAListingAreOfOneRevision(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	fill(t, c, "/many/m", 1500, "x")
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	both := func(i int) error { // on the first and the last page
		value := fmt.Sprint(i)
		_, err := c.Txn(ctx).Then(clientv3.OpPut("/many/a", value), clientv3.OpPut("/many/z", value)).Commit()
		return err
	}
	if err := both(0); err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		for i := 1; ctx.Err() == nil; i++ {
			if err := both(i); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	for range 20 {
		views := make(chan [2]string, 1000)
		w, err := etcdkv.NewWatch(etcdkv.WatchConfig{
			Client: c, Prefixes: []string{"/many/"}, Coalesce: time.Millisecond,
			OnChange: func(v etcdkv.View) {
				select {
				case views <- [2]string{string(v.Values["/many/a"].Data), string(v.Values["/many/z"].Data)}:
				default: // seen enough
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		run, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- w.Run(run) }()
		for range 3 {
			if v := waittest.Next(t, "a view", views); v[0] == "" || v[0] != v[1] {
				t.Errorf("one transaction wrote the same to two keys, a view shows %q", v)
			}
		}
		stop()
		if err := waittest.Next(t, "Run returns", done); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// TestTooMuchIsToldOnceAndNotAskedForAllTheTime: junk under a prefix must
// neither fill an agent's memory nor have a fleet read it again and again,
// and what was good before it stays.
func TestTooMuchIsToldOnceAndNotAskedForAllTheTime(t *testing.T) {
	for name, tc := range map[string]struct {
		limit func(*etcdkv.WatchConfig)
		junk  func(t *testing.T, c *clientv3.Client)
		says  []string
	}{
		"keys": {
			func(cfg *etcdkv.WatchConfig) { cfg.MaxKeys = 100 },
			func(t *testing.T, c *clientv3.Client) { t.Helper(); fill(t, c, "/many/junk/", 1000, "x") },
			[]string{"keys under /many/", "at most 100 (MaxKeys)"},
		},
		"bytes": {
			func(cfg *etcdkv.WatchConfig) { cfg.MaxBytes = 100 << 10 },
			func(t *testing.T, c *clientv3.Client) {
				t.Helper()
				fill(t, c, "/many/junk/", 300, strings.Repeat("x", 1000))
			},
			[]string{"bytes under /many/", "at most 102400 (MaxBytes)"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := etcdtest.Start(t).Client(t)
			put(t, c, "/many/good", "1")
			o := &observer{}
			cfg := etcdkv.WatchConfig{Client: c, Prefixes: []string{"/many/"}, Coalesce: -1, OnChange: o.change, OnError: o.fail}
			tc.limit(&cfg)
			w, err := etcdkv.NewWatch(cfg)
			if err != nil {
				t.Fatal(err)
			}
			w.SetSpread(20*time.Millisecond, 5*time.Second, time.Second)
			background(t, w.Run)
			waittest.Until(t, "first view", o.has(map[string]string{"/many/good": "1"}))
			tc.junk(t, c)
			put(t, c, "/many/good", "2")
			tries := func() int64 { return w.Stats().Restarts[etcdkv.RestartTooLarge] }
			began := time.Now()
			waittest.Until(t, "several tries", func() bool { return tries() >= 8 })
			if took := time.Since(began); took < 500*time.Millisecond {
				t.Errorf("8 readings in %s: that is a spin", took)
			}
			o.mu.Lock()
			if len(o.errs) != 1 || !errors.Is(o.err, etcdkv.ErrTooLarge) {
				t.Errorf("want ErrTooLarge once, got %q", o.errs)
			}
			for _, text := range tc.says {
				if !strings.Contains(o.errs[0], text) {
					t.Errorf("want %q said, got %s", text, o.errs[0])
				}
			}
			if n := len(o.view.Values); n > 100 {
				t.Errorf("the view has %d keys", n)
			}
			o.mu.Unlock()
			if _, err := c.Delete(t.Context(), "/many/junk/", clientv3.WithPrefix()); err != nil {
				t.Fatal(err)
			}
			waittest.Until(t, "the view without junk", o.has(map[string]string{"/many/good": "2"}))
			waittest.Until(t, "the error is withdrawn", func() bool { return !o.failing() })
		})
	}
}

// TestBurstIsToldInFewViews: a burst of writes would have every agent apply
// each of them, and a single write must not wait for others to join it.
func TestBurstIsToldInFewViews(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	const (
		coalesce = 250 * time.Millisecond
		writes   = 300
	)
	type told struct {
		at    time.Time
		value string
	}
	views := make(chan told, writes)
	w, err := etcdkv.NewWatch(etcdkv.WatchConfig{
		Client: c, Keys: []string{"/one"}, Coalesce: coalesce,
		OnChange: func(v etcdkv.View) { views <- told{time.Now(), string(v.Values["/one"].Data)} },
	})
	if err != nil {
		t.Fatal(err)
	}
	background(t, w.Run)
	last := waittest.Next(t, "first view", views)
	waittest.Until(t, "a pause in which nothing changes", func() bool { return time.Since(last.at) > 2*coalesce })
	began := time.Now()
	for i := range writes {
		put(t, c, "/one", fmt.Sprint(i))
	}
	took, n := time.Since(began), 0
	for last.value != fmt.Sprint(writes-1) {
		v := waittest.Next(t, "a view", views)
		if n++; n == 1 && v.at.Sub(began) > coalesce {
			t.Errorf("the first change was told after %s: want it told at once", v.at.Sub(began))
		}
		// A timer is never early, but the clock is read a little later.
		if apart := v.at.Sub(last.at); apart < coalesce-10*time.Millisecond {
			t.Errorf("two views %s apart: want %s", apart, coalesce)
		}
		last = v
	}
	if most := int(took/coalesce) + 2; n > most {
		t.Errorf("%d views of %d writes within %s: want at most %d", n, writes, took, most)
	}
}

// TestSlowReceiverIsTold: a receiver that falls behind cannot know, and
// nobody looks for the cause where it is.
func TestSlowReceiverIsTold(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	const writes = 20
	var (
		log     waittest.Log
		views   = make(chan etcdkv.View, 100)
		entered = make(chan struct{}, 100)
		release = make(chan struct{})
	)
	w, err := etcdkv.NewWatch(etcdkv.WatchConfig{
		Client: c, Keys: []string{"/one"}, Coalesce: -1,
		OnChange: func(v etcdkv.View) {
			entered <- struct{}{}
			<-release
			views <- v
		},
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	background(t, w.Run)
	waittest.Next(t, "first view", entered)
	for i := range writes {
		put(t, c, "/one", fmt.Sprint(i))
	}
	waittest.Until(t, "all is drained while the first view is still being looked at",
		func() bool { return w.Stats().Events == writes })
	waittest.Until(t, "the call has lasted", func() bool { return w.Stats().Busy > 1100*time.Millisecond })
	close(release)
	waittest.Next(t, "first view is through", views)
	v := waittest.Next(t, "second view", views)
	if v.Folded != writes-1 || v.Waited < 500*time.Millisecond {
		t.Errorf("want %d changes folded and the wait for a slow receiver, got %d and %s", writes-1, v.Folded, v.Waited)
	}
	put(t, c, "/one", "x")
	v = waittest.Next(t, "third view", views)
	if v.Folded != 0 {
		t.Errorf("want nothing folded, got %d", v.Folded)
	}
	if n := log.Count("is slow"); n != 1 {
		t.Errorf("want one line in the log, got %d", n)
	}
	if s := w.Stats(); s.Folded != writes-1 || s.Views != 3 {
		t.Errorf("want %d folded in 3 views, got %+v", writes-1, s)
	}
}

// TestSignsOfLifeReachEveryWatchOfAClient: the watches of a client share a
// stream, and one that hears nothing is thought dead.
func TestSignsOfLifeReachEveryWatchOfAClient(t *testing.T) {
	server := etcdtest.Start(t)
	c := server.Client(t)
	var watches []*etcdkv.Watch
	for i := range 3 {
		w, err := etcdkv.NewWatch(etcdkv.WatchConfig{
			Client: c, Keys: []string{"/one"}, Prefixes: []string{fmt.Sprintf("/many/%d/", i)},
			OnChange: func(etcdkv.View) {},
		})
		if err != nil {
			t.Fatal(err)
		}
		if !w.Heard().IsZero() {
			t.Error("heard before it ran")
		}
		w.SetStaleness(300*time.Millisecond, 5*time.Second)
		background(t, w.Run)
		watches = append(watches, w)
	}
	for range 3 {
		since := time.Now()
		for i, w := range watches {
			waittest.Until(t, fmt.Sprintf("watch %d hears etcd", i), func() bool { return w.Heard().After(since) })
		}
	}
	for _, w := range watches {
		if n := len(w.Stats().Restarts); n != 0 {
			t.Errorf("want no restart, got %v", w.Stats().Restarts)
		}
	}
}
