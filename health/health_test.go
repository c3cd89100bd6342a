package health_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
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

// advance moves the clock of a synctest bubble and lets what is due by then
// happen before the test goes on.
func advance(d time.Duration) {
	work(d)
	synctest.Wait()
}

// work is a check's function that takes d of a synctest bubble's time.
func work(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // nothing waits: the clock is the bubble's

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

func TestSecondRunIsRefused(t *testing.T) {
	m := newMonitor(t, health.Config{})
	run(t, m)()
	if err := m.Run(t.Context()); !errors.Is(err, health.ErrStarted) {
		t.Errorf("got %v, want ErrStarted", err)
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
