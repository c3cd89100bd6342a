package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errReplaced ends an attempt that has started nothing yet when a newer request
// comes.
var errReplaced = errors.New("replaced by a newer request while it waited or downloaded")

// busyTimeout is how long Config.Busy may take to answer. One that does not
// counts as busy.
const busyTimeout = 5 * time.Second

// awaitIdle waits until the host program is not busy, for BusyLimit at most:
// work that never ends must not keep a host on an old release for ever. A
// forced request does not wait, and a newer one takes the place of one that
// does.
func (u *Upgrader) awaitIdle(ctx context.Context, r Request) error {
	if u.cfg.Busy == nil || r.Force {
		return nil
	}
	limit := time.NewTimer(u.cfg.BusyLimit)
	defer limit.Stop()
	deadline := time.Now().Add(u.cfg.BusyLimit).UTC()
	look := time.NewTicker(u.cfg.HealthEvery)
	defer look.Stop()
	told, ask := "", u.busy()
	for {
		why := ask(ctx)
		if why == "" {
			return nil
		}
		if why != told {
			told = why
			err := u.move(Staged, func(a *Attempt) { a.Reason, a.Deadline = "waits: the host program is busy: "+why, deadline })
			if err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.C:
			u.attemptLog().Warn("the host program is still busy and is upgraded all the same", "reason", why, "duration", u.cfg.BusyLimit)
			return nil
		case <-look.C:
		}
		if err := u.giveWay(); err != nil {
			return err
		}
	}
}

// giveWay performs what is asked meanwhile. It returns an error if that ends
// the wait: a hold, a newer attempt, or that it was taken back.
func (u *Upgrader) giveWay() error {
	u.obeyCommand()
	if err := u.wanted(false); err != nil {
		return err
	}
	if err := held(u.cfg.StateDir); err != nil {
		return err
	}
	if next := u.newer(); next != nil && next.Action.attempt() {
		return fmt.Errorf("%w: %s %s", errReplaced, next.Action, next.Pin)
	}
	return nil
}

// busy returns a function that asks Config.Busy. While a call has not
// returned there is no other.
func (u *Upgrader) busy() func(context.Context) string {
	var answer chan string
	return func(ctx context.Context) string {
		if answer == nil {
			answer = make(chan string, 1)
			go func(to chan<- string) { to <- u.cfg.Busy(ctx) }(answer)
		}
		limit := time.NewTimer(busyTimeout)
		defer limit.Stop()
		select {
		case why := <-answer:
			answer = nil
			return sentence(why)
		case <-limit.C:
		case <-ctx.Done():
		}
		return fmt.Sprintf("it has not answered for %v whether it is", busyTimeout)
	}
}
