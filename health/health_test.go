package health_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perennial-go/perennial/health"
)

var errDown = errors.New("down")

func passes(context.Context) error { return nil }
func fails(context.Context) error  { return errDown }

func newMonitor(t *testing.T, cfg health.Config) *health.Monitor {
	t.Helper()
	m, err := health.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// run runs m for the rest of the test and checks that Run returns nil.
func run(t *testing.T, m *health.Monitor) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v, want nil for a stop that was asked for", err)
		}
	}
}

// advance moves the clock of a synctest bubble.
func advance(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // nothing waits: the clock is the bubble's

func check(t *testing.T, r health.Report, name string) health.CheckReport {
	t.Helper()
	for _, c := range r.Checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check %s in %+v", name, r.Checks)
	return health.CheckReport{}
}

func indicator(t *testing.T, r health.Report, name string) health.IndicatorReport {
	t.Helper()
	for _, i := range r.Indicators {
		if i.Name == name {
			return i
		}
	}
	t.Fatalf("no indicator %s in %+v", name, r.Indicators)
	return health.IndicatorReport{}
}

func TestKindDecidesWhichAnswerFails(t *testing.T) {
	for _, tc := range []struct {
		kind        health.Kind
		live, ready bool
	}{
		{"", true, false},
		{health.Readiness, true, false},
		{health.Liveness, false, true},
		{health.Both, false, false},
		{health.Informative, true, true},
	} {
		t.Run(string(tc.kind), func(t *testing.T) {
			m := newMonitor(t, health.Config{Checks: []health.Check{{Name: "c", Kind: tc.kind, Func: fails}}})
			r := m.Evaluate(t.Context())
			if r.Live != tc.live || r.Ready != tc.ready {
				t.Errorf("a failed %q check: live %v, ready %v; want %v, %v", tc.kind, r.Live, r.Ready, tc.live, tc.ready)
			}
		})
	}
}

func TestBeforeTheFirstResultTheProcessIsLiveButNotReady(t *testing.T) {
	m := newMonitor(t, health.Config{Checks: []health.Check{{Name: "c", Kind: health.Both, Func: passes}}})
	r := m.Report()
	if !r.Live || r.Ready {
		t.Errorf("live %v, ready %v; want true, false", r.Live, r.Ready)
	}
	if got := check(t, r, "c"); got.OK || got.Error == "" || !got.At.IsZero() {
		t.Errorf("check without a result: %+v", got)
	}
}

func TestConditionChangesReadinessOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, health.Config{})
		start := time.Now()
		m.Set("registration", errDown)
		advance(time.Second)
		m.Set("registration", errors.New("still down"))
		r := m.Report()
		if c := check(t, r, "registration"); r.Ready || !r.Live || c.Error != "still down" || !c.Since.Equal(start) || !c.Pushed {
			t.Errorf("ready %v, live %v, condition %+v; want since %v", r.Ready, r.Live, c, start)
		}
		m.Set("registration", nil)
		r = m.Report()
		if c := check(t, r, "registration"); !r.Ready || !c.OK || !c.Since.Equal(start.Add(time.Second)) {
			t.Errorf("cleared: ready %v, condition %+v", r.Ready, c)
		}
		m.Set("draining", errDown)
		m.RemoveCheck("draining")
		if r = m.Report(); !r.Ready || len(r.Checks) != 1 {
			t.Errorf("removed condition still counts: %+v", r)
		}
	})
}

func TestConditionCannotOverrideACheck(t *testing.T) {
	m := newMonitor(t, health.Config{Checks: []health.Check{{Name: "disk", Func: fails}}})
	m.Set("disk", nil)
	if r := m.Evaluate(t.Context()); r.Ready || len(r.Checks) != 1 {
		t.Errorf("%+v", r)
	}
	m.Set("link", nil)
	if err := m.AddCheck(health.Check{Name: "link", Func: passes}); !errors.Is(err, health.ErrDuplicate) {
		t.Errorf("a check over a condition: %v, want ErrDuplicate", err)
	}
}

func TestCheckRunsAtOnceAndThenEachPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		m := newMonitor(t, health.Config{MemoryEvery: -1, Checks: []health.Check{{Name: "c", Func: func(context.Context) error {
			at = append(at, time.Since(start))
			return nil
		}}}})
		stop := run(t, m)
		advance(25 * time.Second)
		stop()
		if got := fmt.Sprint(at); got != "[0s 10s 20s]" {
			t.Errorf("ran at %s, want [0s 10s 20s]", got)
		}
	})
}

func TestCheckAddedWhileRunningRunsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, health.Config{})
		stop := run(t, m)
		defer stop()
		advance(3 * time.Second)
		if err := m.AddCheck(health.Check{Name: "late", Func: passes}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if c := check(t, m.Report(), "late"); !c.OK {
			t.Errorf("%+v", c)
		}
	})
}

func TestCheckSinceIsTheLastChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, down := time.Now(), false
		m := newMonitor(t, health.Config{Checks: []health.Check{{Name: "c", Func: func(context.Context) error {
			if down {
				return errDown
			}
			return nil
		}}}})
		for i, want := range []time.Duration{1, 1, 3, 3, 5} {
			down = i == 2 || i == 3
			advance(time.Second)
			if c := check(t, m.Evaluate(t.Context()), "c"); !c.Since.Equal(start.Add(want*time.Second)) || !c.At.Equal(time.Now()) {
				t.Errorf("result %d: since %v at %v, want since %ds", i, c.Since.Sub(start), c.At.Sub(start), want)
			}
		}
	})
}

func TestRemovedCheckCountsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cancelled := make(chan struct{})
		m := newMonitor(t, health.Config{Checks: []health.Check{{Name: "c", Func: func(ctx context.Context) error {
			<-ctx.Done()
			close(cancelled)
			return errDown
		}}}})
		stop := run(t, m)
		defer stop()
		synctest.Wait()
		m.RemoveCheck("c")
		<-cancelled
		if err := m.AddCheck(health.Check{Name: "c", Func: passes}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if c := check(t, m.Report(), "c"); !c.OK {
			t.Errorf("the removed check's result reached its successor of that name: %+v", c)
		}
	})
}

func TestHangingCheckHoldsUpNothingAndIsNotStartedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var calls, others atomic.Int32
		m := newMonitor(t, health.Config{Checks: []health.Check{
			{Name: "hangs", Kind: health.Both, Func: func(context.Context) error {
				if calls.Add(1) == 1 {
					<-release // takes no notice of its context
				}
				return nil
			}},
			{Name: "works", Func: func(context.Context) error { others.Add(1); return nil }},
		}})
		stop := run(t, m)
		defer stop()
		advance(95 * time.Second)
		if calls.Load() != 1 || others.Load() != 10 {
			t.Errorf("hanging check called %d times, want 1; other check %d times, want 10", calls.Load(), others.Load())
		}
		before := time.Now()
		r := m.Evaluate(t.Context())
		if took := time.Since(before); took != 0 {
			t.Errorf("Evaluate waited %v for a check that is known to hang", took)
		}
		if c := check(t, r, "hangs"); r.Live || r.Ready || !strings.Contains(c.Error, "no answer within 2s") || !strings.Contains(c.Error, "has not returned") {
			t.Errorf("live %v, ready %v, %+v", r.Live, r.Ready, c)
		}
		close(release)
		advance(10 * time.Second)
		if r = m.Report(); !r.Live || !r.Ready {
			t.Errorf("the check answers again and still counts as failed: %+v", r.Checks)
		}
	})
}

func TestCheckThatHeedsItsDeadlineIsReportedAsTimedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, health.Config{Checks: []health.Check{{Name: "c", Timeout: 3 * time.Second, Func: func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}}}})
		c := check(t, m.Evaluate(t.Context()), "c")
		if c.OK || !strings.HasPrefix(c.Error, "no answer within 3s") || c.Duration != 3 {
			t.Errorf("%+v", c)
		}
		synctest.Wait()
	})
}

type nilError struct{ text string }

func (e *nilError) Error() string { return e.text }

func TestPanickingCheckFailsAlone(t *testing.T) {
	for name, f := range map[string]func(context.Context) error{
		"panic":           func(context.Context) error { panic("boom") },
		"nil dereference": func(context.Context) error { var m *health.Monitor; m.Set("x", nil); return nil },
		"typed nil error": func(context.Context) error { var e *nilError; return e },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMonitor(t, health.Config{Checks: []health.Check{{Name: "bad", Func: f}, {Name: "good", Func: passes}}})
			r := m.Evaluate(t.Context())
			if c := check(t, r, "bad"); c.OK || !strings.HasPrefix(c.Error, "panic: ") {
				t.Errorf("%+v", c)
			}
			if c := check(t, r, "good"); !c.OK {
				t.Errorf("%+v", c)
			}
		})
	}
}

func TestErrorTextIsOneBoundedLine(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"newline forges a line":    {"a\n[+] disk ok\x1b[2J", "a [+] disk ok [2J"},
		"invalid UTF-8":            {"a\xffb", "a?b"},
		"empty text is no success": {"", "failed without a reason"},
		"long text is cut":         {strings.Repeat("é", 5000), strings.Repeat("é", 510) + "…"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMonitor(t, health.Config{Checks: []health.Check{
				{Name: "c", Func: func(context.Context) error { return errors.New(tc.text) }},
			}})
			if c := check(t, m.Evaluate(t.Context()), "c"); c.Error != tc.want || c.OK {
				t.Errorf("got %q, want %q", c.Error, tc.want)
			}
		})
	}
}

func TestEvaluateRunsChecksConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, health.Config{})
		for i := range 20 {
			if err := m.AddCheck(health.Check{Name: fmt.Sprint("c", i), Func: func(context.Context) error {
				advance(time.Second)
				return nil
			}}); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		r := m.Evaluate(t.Context())
		if took := time.Since(start); took != time.Second || !r.Ready {
			t.Errorf("took %v, want 1s; ready %v", took, r.Ready)
		}
	})
}

func TestEvaluateJoinsACallUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		m := newMonitor(t, health.Config{Checks: []health.Check{{Name: "c", Func: func(context.Context) error {
			calls.Add(1)
			advance(time.Second)
			return nil
		}}}})
		stop := run(t, m)
		defer stop()
		synctest.Wait()
		if r := m.Evaluate(t.Context()); !r.Ready || calls.Load() != 1 {
			t.Errorf("ready %v, %d calls; want true after 1 call", r.Ready, calls.Load())
		}
	})
}

func TestEvaluateEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, health.Config{Checks: []health.Check{{Name: "slow", Func: func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}}}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		r := m.Evaluate(ctx)
		if took := time.Since(start); took != time.Second || r.Ready {
			t.Errorf("took %v, want 1s; ready %v, want false", took, r.Ready)
		}
		advance(2 * time.Second) // past the check's own timeout
		if c := check(t, m.Report(), "slow"); !strings.HasPrefix(c.Error, "no answer within 2s") {
			t.Errorf("the impatience of a caller cancelled the check: %+v", c)
		}
	})
}

func TestRunWaitsForChecksUnderWayAndDropsTheirCancelledResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var inside atomic.Bool
		first := true
		m := newMonitor(t, health.Config{Checks: []health.Check{{Name: "c", Func: func(ctx context.Context) error {
			if first {
				first = false
				return nil
			}
			inside.Store(true)
			<-ctx.Done()
			advance(time.Second)
			inside.Store(false)
			return ctx.Err()
		}}}})
		stop := run(t, m)
		advance(11 * time.Second)
		if !inside.Load() {
			t.Fatal("the check is not under way")
		}
		stop()
		synctest.Wait()
		if inside.Load() {
			t.Error("Run returned while a check was running")
		}
		if !m.Report().Ready {
			t.Error("stopping made a passing check fail")
		}
	})
}

func TestRunIsNotHeldUpForEverByAHangingCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		m := newMonitor(t, health.Config{Checks: []health.Check{{Name: "c", Func: func(context.Context) error { <-release; return nil }}}})
		stop := run(t, m)
		synctest.Wait()
		start := time.Now()
		stop()
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("Run took %v to return, want at most the check's timeout", took)
		}
		close(release)
	})
}

func TestSecondRunIsRefused(t *testing.T) {
	m := newMonitor(t, health.Config{})
	run(t, m)()
	if err := m.Run(t.Context()); !errors.Is(err, health.ErrStarted) {
		t.Errorf("got %v, want ErrStarted", err)
	}
}

func TestOnChangeTellsChangesAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		calls := 0
		var seen []string
		m := newMonitor(t, health.Config{
			MemoryEvery: -1,
			Checks: []health.Check{{Name: "c", Func: func(context.Context) error {
				if calls++; down.Load() {
					return fmt.Errorf("attempt %d", calls)
				}
				return nil
			}}},
			OnChange: func(r health.Report) {
				line := fmt.Sprint("ready=", r.Ready)
				for _, c := range r.Checks {
					if c.Pushed {
						line += " " + c.Name + ":" + c.Error
					}
				}
				for _, a := range r.Alerts {
					line += " !" + a.Name
				}
				seen = append(seen, line)
			},
		})
		stop := run(t, m)
		advance(time.Minute) // six passes of the check
		down.Store(true)
		advance(time.Minute) // six failures with six texts
		down.Store(false)
		advance(10 * time.Second)
		m.Set("link", errors.New("cut"))
		synctest.Wait()
		m.Set("link", errors.New("denied"))
		synctest.Wait()
		m.Set("link", nil)
		m.Observe(health.PluginExceptions, 1)
		advance(30 * time.Second)
		stop()
		got := strings.Join(seen, "\n")
		for strings.HasPrefix(got, "ready=false\n") { // before the first result
			got = got[len("ready=false\n"):]
		}
		want := "ready=true\nready=false\nready=true\nready=false link:cut\nready=false link:denied\nready=true link:\nready=true link: !plugin_exceptions"
		if got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	})
}

func TestHeartbeatWithoutAnswerFiresAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, health.Config{MemoryEvery: -1})
		stop := run(t, m)
		defer stop()
		beat := func(latency float64, n int) {
			for range n {
				m.Observe(health.HeartbeatLatency, latency)
				advance(5 * time.Second)
			}
		}
		beat(0.004, 3)
		if i := indicator(t, m.Report(), health.HeartbeatLatency); i.State != health.OK || i.Threshold != 2 {
			t.Errorf("%+v", i)
		}
		beat(math.Inf(1), 4)
		r := m.Report()
		if len(r.Alerts) != 1 || r.Alerts[0].Name != "heartbeat" || !math.IsInf(float64(r.Alerts[0].Value), 1) {
			t.Errorf("alerts after 20 s without an answer: %+v", r.Alerts)
		}
		if !r.Live || !r.Ready {
			t.Error("an alert changed liveness or readiness")
		}
		beat(0.004, 8)
		if r = m.Report(); len(r.Alerts) != 0 {
			t.Errorf("alerts 40 s after recovery: %+v", r.Alerts)
		}
	})
}

func TestOneExceptionBetweenJudgementsIsNotMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, health.Config{MemoryEvery: -1})
		stop := run(t, m)
		defer stop()
		advance(time.Second)
		m.Observe(health.PluginExceptions, 1)
		m.Observe(health.PluginExceptions, 0)
		advance(30 * time.Second)
		if r := m.Report(); len(r.Alerts) != 1 || r.Alerts[0].Value != 1 {
			t.Errorf("%+v", r.Alerts)
		}
		advance(6 * time.Minute)
		if r := m.Report(); len(r.Alerts) != 0 {
			t.Errorf("fires on six minutes after the only exception: %+v", r.Alerts)
		}
	})
}

func TestNaNCountsAsMissingAnswer(t *testing.T) {
	m := newMonitor(t, health.Config{Rules: []health.Rule{}})
	m.Observe("x", math.NaN())
	if i := indicator(t, m.Report(), "x"); !math.IsInf(float64(i.Value), 1) {
		t.Errorf("%+v", i)
	}
}

func TestBadConfigurationIsRefused(t *testing.T) {
	ok := health.Check{Name: "c", Func: passes}
	rule := health.Rule{Name: "r", Indicator: "i", Above: 1}
	with := func(change func(*health.Rule)) health.Config {
		r := rule
		change(&r)
		return health.Config{Rules: []health.Rule{r}}
	}
	for name, tc := range map[string]struct {
		cfg  health.Config
		want error
	}{
		"check without name":      {health.Config{Checks: []health.Check{{Func: passes}}}, health.ErrInvalid},
		"check name with newline": {health.Config{Checks: []health.Check{{Name: "a\nb", Func: passes}}}, health.ErrInvalid},
		"check name too long":     {health.Config{Checks: []health.Check{{Name: strings.Repeat("a", 129), Func: passes}}}, health.ErrInvalid},
		"check without function":  {health.Config{Checks: []health.Check{{Name: "c"}}}, health.ErrInvalid},
		"unknown kind":            {health.Config{Checks: []health.Check{{Name: "c", Kind: "x", Func: passes}}}, health.ErrInvalid},
		"negative period":         {health.Config{Checks: []health.Check{{Name: "c", Every: -1, Func: passes}}}, health.ErrInvalid},
		"negative timeout":        {health.Config{Checks: []health.Check{{Name: "c", Timeout: -1, Func: passes}}}, health.ErrInvalid},
		"two checks of one name":  {health.Config{Checks: []health.Check{ok, ok}}, health.ErrDuplicate},
		"two rules of one name":   {health.Config{Rules: []health.Rule{rule, rule}}, health.ErrDuplicate},
		"rule without name":       {with(func(r *health.Rule) { r.Name = "" }), health.ErrInvalid},
		"rule without indicator":  {with(func(r *health.Rule) { r.Indicator = "" }), health.ErrInvalid},
		"NaN threshold":           {with(func(r *health.Rule) { r.Above = math.NaN() }), health.ErrInvalid},
		"infinite threshold":      {with(func(r *health.Rule) { r.Above = math.Inf(1) }), health.ErrInvalid},
		"clear above threshold":   {with(func(r *health.Rule) { r.Clear = 2 }), health.ErrInvalid},
		"negative for":            {with(func(r *health.Rule) { r.For = -1 }), health.ErrInvalid},
		"unknown fold":            {with(func(r *health.Rule) { r.Fold = "mean" }), health.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := health.New(tc.cfg); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
	reg := prometheus.NewRegistry()
	newMonitor(t, health.Config{Registry: reg})
	if _, err := health.New(health.Config{Registry: reg}); err == nil {
		t.Error("two Monitors share a registry without an error: their metrics would collide")
	}
}

func TestConcurrentUse(t *testing.T) {
	m := newMonitor(t, health.Config{OnChange: func(health.Report) {}})
	stop := run(t, m)
	done := make(chan struct{})
	for g := range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			name := fmt.Sprint("c", g)
			for range 100 {
				if err := m.AddCheck(health.Check{Name: name, Every: time.Millisecond, Func: passes}); err != nil {
					t.Error(err)
				}
				m.Set("shared", errDown)
				m.Observe(health.HeartbeatLatency, 1)
				m.Evaluate(t.Context())
				m.Set("shared", nil)
				m.RemoveCheck(name)
			}
		}()
	}
	for range 8 {
		<-done
	}
	stop()
	if r := m.Report(); !r.Ready || !r.Live {
		t.Errorf("%+v", r)
	}
}
