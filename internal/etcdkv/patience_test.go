package etcdkv

import (
	"testing"
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
