package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// present opens the presence of an agent that does nothing, keeps its lease and
// watches its keys as long as the test runs.
func present(t *testing.T, endpoint string) *presence {
	t.Helper()
	cfg := idle(t)
	cfg.Etcd.Endpoints, cfg.TTL, cfg.HeartbeatEvery = []string{endpoint}, 20*time.Second, 100*time.Millisecond
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := a.presence
	if err := p.open(); err != nil {
		t.Fatal(err)
	}
	a.orders = newOrders(a)
	ctx, cancel := context.WithCancel(context.Background())
	kept, watched := make(chan error, 1), make(chan error, 1)
	go func() { kept <- p.session.Run(ctx) }()
	go func() { watched <- p.tend(ctx) }()
	t.Cleanup(func() {
		cancel()
		for what, ended := range map[string]chan error{"session": kept, "watch": watched} {
			if err := waittest.Next(t, "the end of the "+what, ended); !errors.Is(err, context.Canceled) {
				t.Errorf("the %s ended with %v", what, err)
			}
		}
		_ = p.client.Close()
	})
	waittest.Next(t, "registered", p.registered)
	return p
}

// TestAgentKnowsThatWhatItSeesIsOld: it would otherwise follow the orders and
// the configuration of a watch that has died without a word.
func TestAgentKnowsThatWhatItSeesIsOld(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	p := present(t, server.URL())
	waittest.Until(t, "what was written came back on the watch", func() bool {
		return p.registry.behind(time.Now()) == 0 && p.watch.Load() != nil && !p.watch.Load().Heard().IsZero()
	})
	if age, why := p.staleness(time.Now()); why != "" {
		t.Errorf("stale for %v: %s", age, why)
	}

	// By its own clock, and etcd has not said anything.
	server.Kill()
	age, why := p.staleness(time.Now().Add(2 * staleAfter))
	if !strings.Contains(why, "nothing was heard on the watch for") || age < staleAfter {
		t.Errorf("silent for two minutes: %v, %q", age, why)
	}
	if r := p.report(); r.EtcdHeard.IsZero() || r.StaleSeconds < 0 {
		t.Errorf("%+v", r)
	}
	waittest.Until(t, "a heartbeat fails", func() bool { return p.report().HeartbeatError != "" })
	server.Restart()
	waittest.Until(t, "a heartbeat is answered", func() bool { return p.report().HeartbeatError == "" })
	if n := p.report(); n.LeasesResumed == 0 || n.LeasesLost != 0 {
		t.Errorf("%+v: want the lease resumed", n)
	}
}

// TestWatchThatLagsBehindShowsThoughItAnswers: a member that lags answers every
// question for a sign of life.
func TestWatchThatLagsBehindShowsThoughItAnswers(t *testing.T) {
	t.Parallel()
	p := present(t, etcdtest.Start(t).URL())
	waittest.Until(t, "what was written came back on the watch", func() bool { return p.registry.behind(time.Now()) == 0 })
	p.registry.mu.Lock()
	revision := p.registry.latest
	p.registry.mu.Unlock()
	p.registry.damage(etcdkv.View{Revision: revision - 1}) // the watch of a member that has not got it
	if age, why := p.staleness(time.Now().Add(echoWithin - time.Second)); why != "" {
		t.Errorf("stale for %v at once: %s", age, why)
	}
	if age, why := p.staleness(time.Now().Add(2 * echoWithin)); !strings.Contains(why, "has not shown what this agent wrote") || age < echoWithin {
		t.Errorf("%v, %q", age, why)
	}
	if err := p.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the next write comes back", func() bool { return p.registry.behind(time.Now().Add(time.Hour)) == 0 })
}
