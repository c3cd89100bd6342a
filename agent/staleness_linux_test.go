package agent

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
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
	return presentAs(t, endpoint, func(*Config) {})
}

func presentAs(t *testing.T, endpoint string, adjust func(*Config)) *presence {
	t.Helper()
	cfg := idle(t)
	cfg.Etcd.Endpoints, cfg.TTL, cfg.HeartbeatEvery = []string{endpoint}, 20*time.Second, 100*time.Millisecond
	adjust(&cfg)
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
	a.health.SetStartup(conditionStart, nil) // of a program whose Start has returned
	return p
}

// TestAgentKnowsThatWhatItSeesIsOld: it would otherwise follow the orders and
// the configuration of a watch that has died without a word.
func TestAgentKnowsThatWhatItSeesIsOld(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	p := present(t, server.URL())
	write(t, p)
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
	// The indicator is infinite now, which is no JSON number.
	p.health.Evaluate(t.Context())
	data, err := json.Marshal(p.status())
	if err != nil || !strings.Contains(string(data), `"heartbeat_error":"`) || !strings.Contains(string(data), `"name":"heartbeat_latency_seconds","value":"+Inf"`) {
		t.Errorf("the status with a heartbeat that was not answered: %s, %v", data, err)
	}
	server.Restart()
	waittest.Until(t, "a heartbeat is answered", func() bool { return p.report().HeartbeatError == "" })
	if n := p.report(); n.LeasesResumed == 0 || n.LeasesLost != 0 {
		t.Errorf("%+v: want the lease resumed", n)
	}
}

// TestQuietEtcdRaisesNoAlert: an operator would learn to ignore it. What a watch
// finds out and mends by itself is not an alert's matter.
func TestQuietEtcdRaisesNoAlert(t *testing.T) {
	t.Parallel()
	p := present(t, etcdtest.Start(t).URL())
	write(t, p)
	age, why := p.staleness(p.watch.Load().Heard().Add(etcdkv.MaxSilence))
	if why != "" || age != etcdkv.MaxSilence {
		t.Errorf("stale for %v: %s", age, why)
	}
	if limit := staleAfter; age >= limit {
		t.Errorf("the alert is above %v s, and a watch may be quiet for %v", limit, age)
	}
}

// TestWatchThatLagsBehindShowsThoughItAnswers: a member that lags answers every
// question for a sign of life.
func TestWatchThatLagsBehindShowsThoughItAnswers(t *testing.T) {
	t.Parallel()
	p := present(t, etcdtest.Start(t).URL())
	write(t, p)
	key := p.registry.keys.status(p.cfg.ID)
	p.registry.mu.Lock()
	revision := p.registry.held[key].revision
	p.registry.mu.Unlock()
	// The watch of a member that has not got it.
	p.registry.damage(etcdkv.View{Revision: revision - 1, Values: map[string]etcdkv.Value{key: {ModRevision: revision - 1}}})
	if age, why := p.staleness(time.Now().Add(echoWithin - time.Second)); why != "" {
		t.Errorf("stale for %v at once: %s", age, why)
	}
	if age, why := p.staleness(time.Now().Add(2 * echoWithin)); !strings.Contains(why, "has not shown what this agent wrote") || age < echoWithin {
		t.Errorf("%v, %q", age, why)
	}
	write(t, p)
}

// write writes the status and waits until it has come back on the watch.
func write(t *testing.T, p *presence) {
	t.Helper()
	if _, err := p.flush(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "what was written comes back on the watch", func() bool { return p.registry.echo.behind(time.Now().Add(time.Hour)) == 0 })
}

// TestBeatThatIsAnsweredDoesNotHideARegistrationThatCannotBeWritten: the agent
// would say that it is registered while nobody finds it.
func TestBeatThatIsAnsweredDoesNotHideARegistrationThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	p := present(t, etcdtest.Start(t).URL())
	write(t, p)
	said := func() string {
		for _, c := range p.health.Report().Checks {
			if c.Name == conditionRegistration {
				return c.Error
			}
		}
		return "nothing"
	}
	beats := func() {
		t.Helper()
		began := time.Now()
		waittest.Until(t, "two beats", func() bool { at, _, _ := p.session.LastBeat(); return at.Sub(began) > p.cfg.HeartbeatEvery })
	}
	_ = p.enlisted(errors.New("permission denied"))
	beats()
	if got := said(); got != "permission denied" {
		t.Errorf("it says %q", got)
	}
	if err := p.enlist(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := said(); got != "" {
		t.Errorf("registered again, it says %q", got)
	}
	_ = p.enlisted(errors.New("permission denied"))
	write(t, p) // which is fenced where the registration is gone
	waittest.Until(t, "it says that it is registered", func() bool { return said() == "" })
}

// TestSilenceIsNoticedWithinTheTTL, also where a heartbeat is on its way for
// as long as etcd hangs, and is told once, and once that it is over.
func TestSilenceIsNoticedWithinTheTTL(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	var lines waittest.Log
	p := presentAs(t, server.URL(), func(cfg *Config) {
		cfg.TTL, cfg.Logger = 7*time.Second, slog.New(slog.NewTextHandler(&lines, nil))
	})
	ready := func() bool { return p.health.Report().Ready }
	waittest.Until(t, "it is ready", ready)
	// Heartbeats fail after 3, 6.5 and 10 s.
	server.Pause()
	waittest.Until(t, "it is not ready", func() bool { return !ready() })
	at, _, _ := p.session.LastBeat()
	if silent := time.Since(at); silent > 9500*time.Millisecond {
		t.Errorf("not ready after %v without an answer, with a TTL of 7s", silent)
	}
	server.Resume()
	waittest.Until(t, "it is ready again", ready)
	waittest.Until(t, "it says so", func() bool { return lines.Count("etcd answers again") == 1 })
	for _, text := range []string{"etcd does not answer", "not ready: the registration is thought lost"} {
		if n := lines.Count(text); n > 1 {
			t.Errorf("%q is logged %d times", text, n)
		}
	}
	if lines.Count("not ready: the registration is thought lost") != 1 {
		t.Error("the log does not say that it is not ready")
	}
}
