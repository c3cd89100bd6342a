package health_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perennial-go/perennial/health"
)

func TestLivenessIsNotJudgedBeforeStartupIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var filled atomic.Bool
		var asked atomic.Int32
		m := newMonitor(t, health.Config{Checks: []health.Check{
			{Name: "cache", Kind: health.Startup, Every: time.Second, Func: func(context.Context) error {
				asked.Add(1)
				if filled.Load() {
					return nil
				}
				return errDown
			}},
			{Name: "loop", Kind: health.Liveness, Func: fails},
			{Name: "store", Func: passes},
		}})
		stop := run(t, m)
		defer stop()
		m.SetStartup("listeners", errDown)
		advance(5 * time.Second)
		if r := m.Report(); !r.Starting || !r.Live || r.Ready {
			t.Errorf("before startup: starting %v, live %v, ready %v", r.Starting, r.Live, r.Ready)
		}
		m.SetStartup("listeners", nil)
		if r := m.Report(); !r.Starting {
			t.Error("startup is over while one check of it fails")
		}
		filled.Store(true)
		advance(time.Second)
		if r := m.Report(); r.Starting || r.Live || !r.Ready {
			t.Errorf("after startup: starting %v, live %v, ready %v; the loop fails", r.Starting, r.Live, r.Ready)
		}
		calls := asked.Load()
		filled.Store(false)
		m.SetStartup("listeners", errDown)
		m.Evaluate(t.Context())
		advance(time.Minute)
		if r := m.Report(); r.Starting || asked.Load() != calls {
			t.Errorf("what startup waited for was asked again (%d times), or undone: starting %v", asked.Load()-calls, r.Starting)
		}
	})
}

func TestConditionsOfTwoKindsDoNotOverrideEachOther(t *testing.T) {
	m := newMonitor(t, health.Config{})
	m.Set("a", nil)
	m.SetStartup("a", errDown)
	m.SetStartup("b", errDown)
	m.Set("b", nil)
	r := m.Report()
	if !check(t, r, "a").OK || check(t, r, "b").OK || !r.Starting {
		t.Errorf("%+v", r)
	}
}
