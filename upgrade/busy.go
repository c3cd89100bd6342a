package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errReplaced ends an attempt that waited when a newer request came.
var errReplaced = errors.New("replaced by a newer request while it waited")

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
	told := ""
	for {
		why := u.cfg.Busy(ctx)
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
			u.log.Warn("the host program is still busy and is upgraded all the same", "busy", why, "after", u.cfg.BusyLimit)
			return nil
		case <-look.C:
		}
		if next := u.newer(); next != nil {
			return fmt.Errorf("%w: %s %s", errReplaced, next.Action, next.Pin)
		}
	}
}
