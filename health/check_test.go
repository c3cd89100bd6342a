package health_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perennial-go/perennial/health"
)

func TestCheckRunsAtOnceAndThenEachPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		m := newMonitor(t, health.Config{NoBuiltIn: true, Checks: []health.Check{{Name: "c", Func: func(context.Context) error {
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
		for i, want := range []int{1, 1, 3, 3, 5} {
			down = i == 2 || i == 3
			advance(time.Second)
			if c := check(t, m.Evaluate(t.Context()), "c"); c.Since.Sub(start).Seconds() != float64(want) || !c.At.Equal(time.Now()) {
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
				work(time.Second)
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
			work(time.Second)
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
			work(time.Second)
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
