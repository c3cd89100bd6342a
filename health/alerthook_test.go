package health_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perennial-go/perennial/health"
)

// judged makes a Monitor with one rule of "i" that is judged every 10 s.
func judged(t *testing.T, r health.Rule, hook func(health.AlertEvent)) *health.Monitor {
	t.Helper()
	r.Name, r.Indicator = "r", "i"
	return newMonitor(t, health.Config{NoBuiltIn: true, Rules: []health.Rule{r}, OnAlert: hook})
}

// feed pushes values, one for each judgement.
func feed(m *health.Monitor, values ...float64) {
	for _, v := range values {
		m.Observe("i", v)
		advance(10 * time.Second)
	}
}

func told(events []health.AlertEvent) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "%s %d; ", e.State, e.Count)
	}
	return strings.TrimSuffix(b.String(), "; ")
}

func TestAlertIsToldOnceWhenItFiresAndOnceWhenItIsResolved(t *testing.T) {
	for name, c := range map[string]struct {
		rule   health.Rule
		values []float64
		state  health.State
		told   string
	}{
		"never above":         {health.Rule{Above: 5}, []float64{1, 5, 1}, health.Inactive, ""},
		"pending only":        {health.Rule{Above: 5, For: 30 * time.Second}, []float64{1, 6, 6}, health.Pending, ""},
		"pending and back":    {health.Rule{Above: 5, For: 30 * time.Second}, []float64{6, 6, 1}, health.Inactive, ""},
		"fires":               {health.Rule{Above: 5, For: 10 * time.Second}, []float64{6, 6, 6, 6}, health.Firing, "firing 1"},
		"resolved":            {health.Rule{Above: 5}, []float64{6, 1}, health.Resolved, "firing 1; resolved 1"},
		"between the two":     {health.Rule{Above: 5, Clear: 2}, []float64{6, 3, 6, 4}, health.Firing, "firing 1"},
		"flaps, kept firing":  {health.Rule{Above: 5, KeepFiring: 30 * time.Second}, []float64{6, 1, 6, 1, 6, 1, 1}, health.Firing, "firing 1"},
		"flaps, not kept":     {health.Rule{Above: 5}, []float64{6, 1, 6, 1}, health.Resolved, "firing 1; resolved 1; firing 2; resolved 2"},
		"kept, then resolved": {health.Rule{Above: 5, KeepFiring: 20 * time.Second}, []float64{6, 1, 1, 1, 1}, health.Resolved, "firing 1; resolved 1"},
		"again, but pending":  {health.Rule{Above: 5, For: 10 * time.Second}, []float64{6, 6, 1, 6}, health.Pending, "firing 1; resolved 1"},
		"back to resolved":    {health.Rule{Above: 5, For: 10 * time.Second}, []float64{6, 6, 1, 6, 1}, health.Resolved, "firing 1; resolved 1"},
		"resolved for long":   {health.Rule{Above: 5, ResolvedFor: 20 * time.Second}, []float64{6, 1, 1, 1}, health.Inactive, "firing 1; resolved 1"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var events []health.AlertEvent
				m := judged(t, c.rule, func(e health.AlertEvent) { events = append(events, e) })
				m.Observe("i", 0)
				stop := run(t, m)
				advance(5 * time.Second) // judgements are between the values
				feed(m, c.values...)
				a, r := m.Alerts()[0], m.Report()
				stop()
				if a.State != c.state || told(events) != c.told || told(m.RecentAlerts()) != c.told {
					t.Errorf("state %s, told %q; want %s, %q", a.State, told(events), c.state, c.told)
				}
				for _, e := range events {
					if e.FiredAt.IsZero() || e.ResolvedAt.IsZero() != (e.State == health.Firing) {
						t.Errorf("fired at %v, resolved at %v: %+v", e.FiredAt, e.ResolvedAt, e)
					}
				}
				if i := indicator(t, r, "i"); i.State != a.State || (len(r.Alerts) == 1) != (a.State == health.Firing) {
					t.Errorf("the report differs: %+v and %+v", i, r.Alerts)
				}
			})
		})
	}
}

func TestAlertTellsItsTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []health.AlertEvent
		m := newMonitor(t, health.Config{NoBuiltIn: true, Rules: []health.Rule{}, OnAlert: func(e health.AlertEvent) { events = append(events, e) },
			Indicators: []health.Indicator{{Name: "i", Unit: "jobs", Rules: []health.Rule{{
				Above: 5, For: 20 * time.Second, KeepFiring: 10 * time.Second, Severity: health.Critical, Summary: "Too many.",
			}}}},
		})
		begun := time.Now()
		at := func(seconds int) time.Time { return begun.Add(time.Duration(seconds) * time.Second) }
		stop := run(t, m)
		defer stop()
		if a := m.Alerts()[0]; a.State != health.Unknown || a.Count != 0 {
			t.Errorf("before there is a value: %+v", a)
		}
		advance(5 * time.Second)
		feed(m, 6, 7, 8, 1, 1) // judged at 10, 20, 30, 40, 50
		want := health.Alert{
			Name: "i", Indicator: "i", State: health.Firing, Severity: health.Critical, Summary: "Too many.",
			Value: 8, Threshold: 5, Unit: "jobs", Since: at(10), FiredAt: at(30), Count: 1,
		}
		if len(events) != 2 || events[0].Alert != want || !events[0].At.Equal(at(30)) {
			t.Fatalf("told %+v, want %+v first", events, want)
		}
		want.State, want.Value, want.Since, want.ResolvedAt = health.Resolved, 1, at(50), at(50)
		if events[1].Alert != want || !events[1].At.Equal(at(50)) {
			t.Errorf("told %+v, want %+v then", events[1], want)
		}
		if i := indicator(t, m.Report(), "i"); !i.Since.Equal(at(50)) {
			t.Errorf("%+v, want the state since %v", i, at(50))
		}
	})
}

func TestSlowHookDelaysOnlyItselfAndCountsWhatItLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var slow, quick []health.AlertEvent
		m := judged(t, health.Rule{Above: 5}, func(e health.AlertEvent) {
			<-release
			slow = append(slow, e)
		})
		m.OnAlert(func(e health.AlertEvent) { quick = append(quick, e) })
		stop := run(t, m)
		advance(5 * time.Second)
		const events = 300
		for n := range events {
			feed(m, float64(9*(1-n%2)))
		}
		if len(quick) != events || len(slow) != 0 {
			t.Errorf("told %d to the quick hook and %d to the one that hangs, want %d and none", len(quick), len(slow), events)
		}
		if n := len(m.RecentAlerts()); n != 100 || m.RecentAlerts()[99] != quick[events-1] {
			t.Errorf("%d events are remembered, want the last 100", n)
		}
		close(release)
		synctest.Wait()
		stop()
		// One was under way, 256 waited.
		if len(slow) != 257 || slow[0].Count != 1 || slow[1].Lost != events-257 || slow[256].Count != events/2 {
			t.Errorf("the slow hook got %d, the second after %d lost", len(slow), slow[1].Lost)
		}
		for n, e := range slow {
			if n != 1 && e.Lost != 0 {
				t.Errorf("event %d: %d lost", n, e.Lost)
			}
		}
	})
}

func TestHookThatPanicsIsCalledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		m := judged(t, health.Rule{Above: 5}, func(health.AlertEvent) { calls++; panic("ouch") })
		stop := run(t, m)
		advance(5 * time.Second)
		feed(m, 6, 1)
		stop()
		if calls != 2 {
			t.Errorf("%d calls, want 2", calls)
		}
	})
}

// TestEndWaitsForTheCallUnderWayOnly: a backlog behind it must not keep a
// process from ending.
func TestEndWaitsForTheCallUnderWayOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		m := judged(t, health.Rule{Above: 5}, func(health.AlertEvent) { calls++; work(time.Minute) })
		stop := run(t, m)
		advance(5 * time.Second)
		feed(m, 6, 1, 6) // fires at 10 s, resolved at 20 s, fires at 30 s
		before := time.Now()
		stop()
		if took := time.Since(before); calls != 1 || took != 35*time.Second {
			t.Errorf("%d calls; the end took %v, want 35s: the rest of the first call", calls, took)
		}
	})
}

func TestRemovedHookIsToldNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := judged(t, health.Rule{Above: 5}, nil)
		calls := 0
		remove := m.OnAlert(func(health.AlertEvent) { calls++ })
		stop := run(t, m)
		advance(5 * time.Second)
		feed(m, 6)
		remove()
		feed(m, 1, 6)
		stop()
		if calls != 1 {
			t.Errorf("%d calls, want 1", calls)
		}
	})
}

// TestAlertOfARemovedIndicatorIsResolved: whoever acted on it must undo that.
func TestAlertOfARemovedIndicatorIsResolved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []health.AlertEvent
		m := judged(t, health.Rule{Above: 5, KeepFiring: time.Hour}, func(e health.AlertEvent) { events = append(events, e) })
		stop := run(t, m)
		defer stop()
		advance(5 * time.Second)
		feed(m, 6)
		m.RemoveIndicator("i")
		advance(time.Minute)
		if told(events) != "firing 1; resolved 1" || len(m.Alerts()) != 0 {
			t.Errorf("told %q; %+v", told(events), m.Alerts())
		}
	})
}
