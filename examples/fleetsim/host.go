package fleetsim

import (
	"math/rand/v2"
	"time"

	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// Begin implements rollout.Host. What it begins is a timer and no goroutine: ten
// thousand of those would take from one another what hosts of their own have.
func (a *Agent) Begin(o rollout.Order) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.process
	if p == nil {
		return
	}
	if former := &a.body.attempt; former.timer != nil {
		former.timer.Stop() // what is on probation goes back at once
	}
	now := time.Now()
	c := &change{Agent: a, p: p, order: o, to: a.goal(o), began: now, limit: now.Add(o.GiveUp + o.Probation)}
	a.body.attempt = attempt{request: o.Request, state: rollout.ReportStarted}
	if o.Action != rollout.ActStage {
		a.cfg.Ledger.Fall(a.id)
	}
	a.cfg.OnBegin(a.id, o)
	if a.has(c.to) {
		c.arrived(false)
	} else {
		c.after(around(a.cfg.Download), c.arrived)
	}
}

// Retract implements rollout.Host: nothing waits here that was begun.
func (a *Agent) Retract(string) {}

// Standing implements rollout.Host.
func (a *Agent) Standing(o rollout.Order) rollout.Standing {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := &a.body
	var s rollout.Standing
	if b.attempt.request == o.Request {
		s.State, s.Reason, s.Class = b.attempt.state, b.attempt.reason, b.attempt.class
	}
	to := a.goal(o)
	s.There = a.has(to)
	// What another order has on probation is not yet known to come or go.
	s.Runs = b.running == to && b.attempt.state != rollout.ReportStarted || s.There && o.Action == rollout.ActStage
	return s
}

// Settle implements rollout.Host.
func (a *Agent) Settle(string) {}

// goal is what o has this host run; a.mu is held.
func (a *Agent) goal(o rollout.Order) release.Pin {
	b := &a.body
	switch {
	case !o.Target.Release.IsZero():
		return o.Target.Release
	case o.Action == rollout.ActRevert && b.running == o.From.Release && !b.before.IsZero():
		return b.before
	}
	return b.running
}

// has reports whether a release lies on this host; a.mu is held.
func (a *Agent) has(p release.Pin) bool {
	b := &a.body
	return b.running == p || b.before == p || b.staged[p] || a.cfg.Staged
}

// change is an order under way.
type change struct {
	*Agent
	p            *process
	order        rollout.Order
	to           release.Pin
	began, limit time.Time
}

// after goes on with next, and tells it whether that took longer than it may;
// a.mu is held, there as here. A process that has ended does nothing more.
func (c *change) after(d time.Duration, next func(late bool)) {
	left := time.Until(c.limit)
	c.body.attempt.timer = time.AfterFunc(min(d, left), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if t := &c.body.attempt; c.process == c.p && c.p.ctx.Err() == nil && t.request == c.order.Request && t.state == rollout.ReportStarted {
			next(d > left)
		}
	})
}

// arrived: what is to run is there.
func (c *change) arrived(late bool) {
	switch {
	case late:
		c.fail("it took too long")
	case c.order.Action == rollout.ActStage:
		c.body.staged[c.to] = true
		c.end(rollout.ReportStaged)
	default:
		c.after(max(around(c.cfg.Probation), c.order.Probation), c.passed)
	}
}

// passed: probation is over.
func (c *change) passed(late bool) {
	c.body.slowest = max(c.body.slowest, time.Since(c.began)-c.order.Probation)
	fate := Works
	if c.order.Action == rollout.ActSwitch {
		fate = c.cfg.Fate(c.id, c.order)
	}
	switch {
	case late:
		c.fail("it took too long")
		return
	case fate == RollsBack:
		c.fail("the release is unhealthy")
		return
	case fate == Dies:
		c.cfg.OnDoom(c.Agent, fate)
		return
	}
	if b := &c.body; b.running != c.to {
		b.before, b.running, b.alert = b.running, c.to, time.Time{}
		b.ran[c.to] = true
	}
	c.end(rollout.ReportDone)
	if fate == FallsBack {
		c.cfg.OnDoom(c.Agent, fate)
	}
	if fate == Alerts {
		time.AfterFunc(alertAfter, c.alarm)
	}
}

func (c *change) fail(reason string) {
	c.body.attempt.reason, c.body.attempt.class = reason, string(upgrade.BadBinary)
	c.end(rollout.ReportFailed)
}

func (c *change) end(state rollout.ReportState) {
	c.body.attempt.state = state
	c.cfg.Ledger.Rise(c.id)
	c.p.touch()
	c.p.follower.Touch()
}

// alertAfter is how long after its change an alert begins to fire: reports tell
// milliseconds, and one that fired before is none of the change's.
const alertAfter = 5 * time.Millisecond

// alarm has an alert fire, unless the agent has left what it is about.
func (c *change) alarm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == c.p && c.p.ctx.Err() == nil && c.body.running == c.to {
		c.body.alert = time.Now()
		c.p.touch()
	}
}

// FallBack has the next start boot what ran before, as the boot guard does.
func (a *Agent) FallBack() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b := &a.body; !b.before.IsZero() {
		b.running, b.before = b.before, release.Pin{}
	}
}

// around is a duration that is more or less by half.
func around(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d/2 + rand.N(d) //nolint:gosec // no secret
}
