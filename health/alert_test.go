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

	"github.com/perennial-go/perennial/health"
)

func TestOnChangeTellsChangesAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		calls := 0
		var seen []string
		m := newMonitor(t, health.Config{
			NoBuiltIn: true,
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
		m := newMonitor(t, health.Config{NoBuiltIn: true})
		stop := run(t, m)
		defer stop()
		beat := func(latency float64, n int) {
			for range n {
				m.Observe(health.HeartbeatLatency, latency)
				advance(5 * time.Second)
			}
		}
		beat(0.004, 3)
		if i := indicator(t, m.Report(), health.HeartbeatLatency); i.State != health.Inactive || i.Threshold != 2 {
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
		m := newMonitor(t, health.Config{NoBuiltIn: true})
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
