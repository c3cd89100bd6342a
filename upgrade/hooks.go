package upgrade

import (
	"context"
	"fmt"
	"time"

	"github.com/perennial-go/perennial/internal/tracing"
)

// Change is what a hook is told of the attempt that it belongs to.
type Change struct {
	// From and To are the releases; From runs, and runs on after a rollback.
	From, To Ref
	// OrderID is the id of the request.
	OrderID string
	// Reason says why it was rolled back; empty before.
	Reason string
	// Committed is true where To had been committed, perhaps long ago, and is
	// left by the boot guard or by RollBack: what the host program has stored
	// since then is newer than what BeforeStart saw, and to put that back
	// would lose it.
	Committed bool
}

// Hooks let the host program prepare for a change and undo what it prepared,
// such as a snapshot of its own data. Each may be nil, and has Timeout; one
// that overruns counts as failed, and is not waited for.
//
// A crash may come between any two steps. Whenever BeforeStart may have been
// called and the release was not committed, AfterRollback is called: by the
// process that rolls back, or at the next start inside Open, before the host
// program opens anything. So AfterRollback must stand being called twice, and
// after a BeforeStart that did not get to its end.
type Hooks struct {
	// BeforeStart is called in the incumbent before the successor is
	// started. An error ends the attempt; the release is not quarantined.
	BeforeStart func(ctx context.Context, c Change) error
	// BeforeCommit is called after the probation has been passed, in the
	// incumbent, or in the successor where it goes on alone. An error rolls
	// back.
	BeforeCommit func(ctx context.Context, c Change) error
	// AfterRollback is called once the incumbent serves again and the
	// successor is gone. Its error is reported.
	AfterRollback func(ctx context.Context, c Change) error
	// Timeout bounds each call; default 30 s.
	Timeout time.Duration
}

type hook func(ctx context.Context, c Change) error

// run calls f within the timeout. The result comes on the channel, once.
func (h Hooks) run(ctx context.Context, name string, f hook, c Change) <-chan error {
	result := make(chan error, 1)
	if f == nil {
		result <- nil
		return result
	}
	ctx, cancel := context.WithTimeoutCause(ctx, h.Timeout, fmt.Errorf("it took longer than %v", h.Timeout))
	done := make(chan error, 1)
	go func() { done <- f(ctx, c) }()
	go func() {
		defer cancel()
		var err error
		select {
		case err = <-done:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if err != nil {
			err = fmt.Errorf("hook %s: %w", name, err)
		}
		result <- err
	}()
	return result
}

func (a Attempt) change() Change {
	return Change{From: a.From, To: a.To, OrderID: a.OrderID, Reason: a.Reason, Committed: a.Abandoned}
}

func (u *Upgrader) beforeStart(ctx context.Context) error {
	return <-u.cfg.Hooks.run(u.below(ctx), "before start", u.cfg.Hooks.BeforeStart, u.journal.last.change())
}

func (u *Upgrader) beforeCommit(ctx context.Context) <-chan error {
	return u.cfg.Hooks.run(u.below(ctx), "before commit", u.cfg.Hooks.BeforeCommit, u.journal.last.change())
}

// rolledBack ends a rollback: the host program undoes what it prepared, and
// only then is the attempt over.
func (u *Upgrader) rolledBack(edit func(*Attempt)) error {
	// The agent may be ending, but its data must be put right all the same.
	ctx := u.course.in(tracing.Join(context.Background(), u.journal.last.Traceparent))
	err := <-u.cfg.Hooks.run(ctx, "after rollback", u.cfg.Hooks.AfterRollback, u.journal.last.change())
	if err != nil {
		u.attemptLog().Error("the host program could not undo its preparations", "error", err)
	}
	return u.move(RolledBack, func(a *Attempt) {
		if edit != nil {
			edit(a)
		}
		if err != nil {
			a.Reason += "; " + err.Error()
		}
	})
}
