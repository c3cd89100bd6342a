package fleetsim

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/perennial-go/perennial/examples/internal/sleep"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// Begin implements rollout.Host.
func (a *Agent) Begin(o rollout.Order) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.process
	if p == nil {
		return
	}
	if former := &a.body.attempt; former.cancel != nil && former.state == rollout.ReportStarted {
		former.cancel() // what is on probation goes back at once
	}
	ctx, cancel := context.WithTimeout(p.ctx, o.GiveUp+o.Probation)
	t := attempt{request: o.Request, state: rollout.ReportStarted, cancel: cancel}
	a.body.attempt = t
	if o.Action != rollout.ActStage {
		a.cfg.Ledger.Fall(a.id)
	}
	a.cfg.OnBegin(a.id, o)
	p.running.Go(func() {
		defer cancel()
		a.change(ctx, p, o)
	})
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

// change does what o asks for.
func (a *Agent) change(ctx context.Context, p *process, o rollout.Order) {
	began := time.Now()
	a.mu.Lock()
	to := a.goal(o)
	there := a.has(to)
	a.mu.Unlock()
	fate := Works
	if o.Action == rollout.ActSwitch {
		fate = a.cfg.Fate(a.id, o)
	}
	err := error(nil)
	if !there {
		err = sleep.For(ctx, around(a.cfg.Download))
	}
	if err == nil && o.Action == rollout.ActStage {
		a.end(p, o, func(b *body) (rollout.ReportState, string) {
			b.staged[to] = true
			return rollout.ReportStaged, ""
		})
		return
	}
	if err == nil {
		err = sleep.For(ctx, max(around(a.cfg.Probation), o.Probation))
	}
	a.took(time.Since(began) - o.Probation)
	a.end(p, o, func(b *body) (rollout.ReportState, string) {
		switch {
		case err != nil:
			return rollout.ReportFailed, "it took too long"
		case fate == RollsBack:
			return rollout.ReportFailed, "the release is unhealthy"
		case fate == Dies:
			return rollout.ReportStarted, ""
		case b.running != to:
			b.before, b.running, b.alert = b.running, to, time.Time{}
			b.ran[to] = true
		}
		return rollout.ReportDone, ""
	})
	switch {
	case err != nil:
	case fate == Dies || fate == FallsBack:
		a.cfg.OnDoom(a, fate)
	case fate == Alerts:
		a.alarm(ctx, p, to)
	}
}

// alertAfter is how long after its change an alert begins to fire: reports tell
// milliseconds, and one that fired before is none of the change's.
const alertAfter = 5 * time.Millisecond

// alarm has an alert fire, unless the agent has left what it is about.
func (a *Agent) alarm(ctx context.Context, p *process, of release.Pin) {
	if sleep.For(ctx, alertAfter) != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.process == p && a.body.running == of {
		a.body.alert = time.Now()
		p.touch()
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

// end notes how an attempt ended, unless another has taken its place or the
// process is dead.
func (a *Agent) end(p *process, o rollout.Order, how func(*body) (rollout.ReportState, string)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := &a.body.attempt
	if a.process != p || p.ctx.Err() != nil || t.request != o.Request || t.state != rollout.ReportStarted {
		return
	}
	t.state, t.reason = how(&a.body)
	if t.state == rollout.ReportFailed {
		t.class = string(upgrade.BadBinary)
	}
	if t.state != rollout.ReportStarted {
		a.cfg.Ledger.Rise(a.id)
	}
	p.touch()
	p.follower.Touch()
}

// around is a duration that is more or less by half.
func around(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d/2 + rand.N(d) //nolint:gosec // no secret
}
