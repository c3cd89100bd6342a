package health_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perennial-go/perennial/health"
)

func TestCheckAfterAFailingOneIsNotRunUntilThatPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		var tables atomic.Int32
		m := newMonitor(t, health.Config{Checks: []health.Check{
			{Name: "rows", Every: time.Hour, After: []string{"tables"}, Func: passes},
			{Name: "tables", Every: time.Hour, After: []string{"server"}, Func: func(context.Context) error { tables.Add(1); return nil }},
			{Name: "server", Func: func(context.Context) error {
				work(time.Second)
				if down.Load() {
					return errDown
				}
				return nil
			}},
		}})
		stop := run(t, m)
		defer stop()
		synctest.Wait()
		if c := check(t, m.Report(), "tables"); tables.Load() != 0 || c.OK || !c.At.IsZero() {
			t.Errorf("before the server's first result: %d calls, %+v", tables.Load(), c)
		}
		advance(time.Second)
		if r := m.Report(); tables.Load() != 1 || !r.Ready {
			t.Fatalf("as soon as the server answers: %d calls, %+v", tables.Load(), r.Checks)
		}
		down.Store(true)
		advance(10 * time.Second)
		r, failed := m.Report(), time.Now()
		if c := check(t, r, "tables"); r.Ready || c.OK || c.Error != "not run: server fails" || !c.At.Equal(failed) || !c.Since.Equal(failed) {
			t.Errorf("the server fails, and the tables are said to be: %+v", c)
		}
		if c := check(t, r, "rows"); c.OK || c.Error != "not run: tables fails" {
			t.Errorf("what comes after what was not run: %+v", c)
		}
		m.Evaluate(t.Context())
		if tables.Load() != 1 {
			t.Error("a check was run while what it comes after fails")
		}
		down.Store(false)
		advance(10 * time.Second)
		if r := m.Report(); tables.Load() != 2 || !r.Ready {
			t.Errorf("once the server answers again: %d calls, want 2 although an hour is not over; %+v", tables.Load(), r.Checks)
		}
	})
}

func TestCheckAfterAConditionFollowsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, health.Config{Conditions: []string{"registration"}, Checks: []health.Check{
			{Name: "peers", Kind: health.Liveness, After: []string{"registration"}, Func: passes},
		}})
		stop := run(t, m)
		defer stop()
		synctest.Wait()
		r := m.Report()
		if c := check(t, r, "registration"); r.Ready || c.OK || c.Error != "has not been told yet" {
			t.Errorf("a condition that nobody has told is %+v", c)
		}
		if !r.Live {
			t.Error("a liveness check that waits for its turn counts as failed")
		}
		m.Set("registration", errDown)
		if r := m.Report(); !r.Live || check(t, r, "peers").Error != "not run: registration fails" {
			t.Errorf("a process is restarted since etcd is away: %+v", r)
		}
		m.Set("registration", nil)
		synctest.Wait()
		if r := m.Report(); !r.Ready || !r.Live || !check(t, r, "peers").OK {
			t.Errorf("%+v", r)
		}
		m.Set("registration", errDown)
		m.RemoveCheck("registration")
		synctest.Wait()
		if c := check(t, m.Report(), "peers"); !c.OK {
			t.Errorf("a check waits for a condition that is no more: %+v", c)
		}
	})
}

func TestResultOfACallFromBeforeADependencyFailedIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		m := newMonitor(t, health.Config{Conditions: []string{"link"}, Checks: []health.Check{
			{Name: "c", Every: time.Hour, After: []string{"link"}, Func: func(context.Context) error {
				if calls.Add(1) == 1 {
					work(time.Second) // heeds no context
					return errors.New("of the old link")
				}
				return nil
			}},
		}})
		stop := run(t, m)
		defer stop()
		m.Set("link", nil)
		synctest.Wait()
		m.Set("link", errDown)
		m.Set("link", nil)
		advance(500 * time.Millisecond)
		if calls.Load() != 1 {
			t.Fatalf("%d calls, want the first to be under way", calls.Load())
		}
		advance(time.Second)
		if c := check(t, m.Report(), "c"); !c.OK || calls.Load() != 2 {
			t.Errorf("%d calls, %+v: want the second's result", calls.Load(), c)
		}
	})
}

func TestEvaluateRunsAFirstAndWhatComesAfterItThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		named := func(name string, after ...string) health.Check {
			return health.Check{Name: name, After: after, Func: func(context.Context) error {
				order = append(order, name)
				work(time.Second)
				return nil
			}}
		}
		m := newMonitor(t, health.Config{Checks: []health.Check{named("c", "b"), named("b", "a"), named("a")}})
		if r := m.Evaluate(t.Context()); !r.Ready {
			t.Errorf("%+v", r.Checks)
		}
		if len(order) != 3 || order[0] != "a" || order[1] != "b" || order[2] != "c" {
			t.Errorf("ran %v", order)
		}
	})
}

func TestDependencyThatCannotBeIsRefused(t *testing.T) {
	named := func(name string, after ...string) health.Check {
		return health.Check{Name: name, After: after, Func: passes}
	}
	for name, checks := range map[string][]health.Check{
		"itself":               {named("a", "a")},
		"a circle":             {named("a", "b"), named("b", "c"), named("c", "a")},
		"what there is not":    {named("a", "b")},
		"a circle far from it": {named("x", "a"), named("a", "b"), named("b", "a")},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := health.New(health.Config{Checks: checks}); !errors.Is(err, health.ErrInvalid) {
				t.Errorf("got %v, want ErrInvalid", err)
			}
		})
	}
	m := newMonitor(t, health.Config{Checks: []health.Check{named("a"), named("b", "a")}})
	m.RemoveCheck("a")
	if err := m.AddCheck(named("a", "b")); !errors.Is(err, health.ErrInvalid) {
		t.Errorf("a circle that closes with a later check: got %v, want ErrInvalid", err)
	}
	if err := m.AddCheck(named("a")); err != nil {
		t.Error(err)
	}
}
