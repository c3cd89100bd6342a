package etcdkv

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestRenewalsAreWaitedForLongerAfterMisses: a fleet that opens another stream
// for each renewal which a busy etcd has not answered yet keeps it busy for
// good. Longer than half the TTL would cost the lease.
func TestRenewalsAreWaitedForLongerAfterMisses(t *testing.T) {
	for name, c := range map[string]struct {
		ttl, interval time.Duration
		want          []time.Duration
	}{
		"default":       {0, 0, []time.Duration{5 * time.Second, 10 * time.Second, 15 * time.Second, 15 * time.Second}},
		"short TTL":     {2 * time.Second, time.Second, []time.Duration{time.Second, time.Second}},
		"many a minute": {time.Minute, time.Second, []time.Duration{3 * time.Second, 6 * time.Second, 12 * time.Second, 24 * time.Second, 30 * time.Second}},
	} {
		s, err := NewSession(SessionConfig{Client: &clientv3.Client{}, TTL: c.ttl, Interval: c.interval})
		if err != nil {
			t.Fatal(err)
		}
		for missed, want := range c.want {
			if got := s.beatTimeout(missed); got != want {
				t.Errorf("%s, %d missed: waits %s, want %s", name, missed, got, want)
			}
		}
	}
}

// mute is an etcd that takes questions and answers none.
type mute struct {
	clientv3.Watcher
	asked int
}

func (m *mute) RequestProgress(context.Context) error {
	m.asked++
	return nil
}

// TestSilenceIsNoticedWithinItsBound: who judges the age of a view by it would
// raise an alarm at what the watch is about to mend, or never.
func TestSilenceIsNoticedWithinItsBound(t *testing.T) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for range 20 { // of other jitter
		synctest.Test(t, func(t *testing.T) {
			etcd := &mute{}
			w, err := NewWatch(WatchConfig{Client: c, Keys: []string{"/k"}, OnChange: func(View) {}})
			if err != nil {
				t.Fatal(err)
			}
			watcher := c.Watcher
			c.Watcher = etcd
			defer func() { c.Watcher = watcher }()
			ctx, cancel := context.WithCancelCause(t.Context())
			w.life.hear()
			heard := time.Now()
			w.probe(ctx, cancel)
			if err := context.Cause(ctx); !errors.Is(err, errStale) || etcd.asked != questions {
				t.Errorf("ended with %v after %d questions", err, etcd.asked)
			}
			if silent := time.Since(heard); silent > MaxSilence || silent < MaxSilence/2 {
				t.Errorf("noticed after %v: want no more than %v", silent, MaxSilence)
			}
		})
	}
}
