package upgrade

import (
	"context"
	"fmt"
	"time"
)

// timed is r with when it must have ended, by this process's own clock, which
// nobody can set. What is noted already stays: a request that is asked for again has
// no more time for it.
func (r Request) timed() Request {
	if r.GiveUp > 0 && r.due.IsZero() {
		r.due = time.Now().Add(r.GiveUp)
	}
	return r
}

// passedOn is r as the next process takes it, whose clock it is to go by.
func (r Request) passedOn() Request {
	if !r.due.IsZero() {
		r.GiveUp = max(time.Until(r.due), 1) // 0 would be no limit
	}
	return r
}

// until is when r must have ended, for the record; zero where there is no limit.
func (r Request) until() time.Time {
	if r.due.IsZero() {
		return time.Time{}
	}
	return r.due.Round(0).UTC() // without the reading of this process's clock
}

// returnTime is how long before a request is due its trial is ended, so that the way
// back is over by then.
func (c Config) returnTime(r Request) time.Duration {
	return min(c.AbortTimeout+killTimeout+commitTimeout+c.Hooks.Timeout, r.GiveUp/4)
}

// prepareWithin bounds what comes before the start of a successor to the time
// after which it could not pass its probation any more.
func (u *Upgrader) prepareWithin(ctx context.Context, r Request) (context.Context, context.CancelFunc) {
	if r.due.IsZero() {
		return context.WithCancel(ctx)
	}
	if r.Action == ActionStage {
		return context.WithDeadlineCause(ctx, r.due, fmt.Errorf("given up: it was to have ended within %v", r.GiveUp))
	}
	spare := u.cfg.returnTime(r) + u.probationFor(r)
	return context.WithDeadlineCause(ctx, r.due.Add(-spare), fmt.Errorf(
		"given up: it was to have ended within %v, of which %v are for the probation and the way back: ask for it with more time", r.GiveUp, spare))
}

// endedBy adds to err why what was bounded by prepareWithin has ended, if it has.
func endedBy(ctx, bounded context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", interrupted, err)
	case bounded.Err() != nil:
		return fmt.Errorf("%w (%w)", context.Cause(bounded), err)
	}
	return err
}

// due ends a trial in time for the way back; it never comes where there is no limit.
func (t *trial) due() (<-chan time.Time, func() bool) {
	if t.request.due.IsZero() {
		return nil, func() bool { return false }
	}
	timer := time.NewTimer(time.Until(t.request.due) - t.cfg.returnTime(t.request))
	return timer.C, timer.Stop
}

// probationFor is how long the successor is on probation that r leads to.
func (u *Upgrader) probationFor(r Request) time.Duration {
	return max(u.cfg.Probation, min(r.Probation, u.cfg.ProbationLimit))
}

// keepFor is how long what r leaves behind is kept by its wish; 0 where it has
// none beyond what is kept anyhow.
func (u *Upgrader) keepFor(r Request) time.Duration {
	if keep := min(r.Retain, u.cfg.RetentionLimit); keep > u.cfg.Retention {
		return keep
	}
	return 0
}
