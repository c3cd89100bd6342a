package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/upgrade/release"
)

// commit makes the release current and gives the host to the successor. The
// pointer moves first: a crash from here on boots a release that has passed.
func (t *trial) commit(ctx context.Context) error {
	if ctx.Err() != nil {
		return t.rollBack(ctx, failure{reason: interrupted}, nil)
	}
	err := failpoint.Hit("passed")
	if err == nil {
		err = t.move(Committing, nil)
	}
	if err != nil {
		return t.rollBack(ctx, failure{class: BadEnvironment, reason: err.Error()}, nil)
	}
	if err := failpoint.Hit("committing"); err != nil {
		return t.undoCommit(ctx, failure{class: BadEnvironment, reason: err.Error()})
	}
	t.slot.Rollback = t.journal.last.comeback()
	if err := t.slots.prove(t.slot, time.Now(), t.journal.last.Retain); err != nil {
		return t.undoCommit(ctx, failure{class: BadEnvironment, reason: err.Error()})
	}
	t.note() // the successor may be asked for a rollback before it has looked
	next := t.waiting()
	here := next != nil && !next.Remote
	if next != nil {
		next = new(next.passedOn())
	}
	if err := t.send(frame{Kind: kindCommit, Next: next, NextHere: here, Paused: t.paused.UTC()}); err != nil {
		return t.undoCommit(ctx, failure{class: BadBinary, reason: "commit could not be sent: " + err.Error()})
	}
	if err := failpoint.Hit("commit-sent"); err != nil {
		return t.undoCommit(ctx, failure{class: BadEnvironment, reason: err.Error()})
	}
	timeout := time.NewTimer(commitTimeout)
	defer timeout.Stop()
	select {
	case err := <-t.ended:
		t.alive, t.lived = false, time.Now()
		if err != nil {
			return t.undoCommit(ctx, *t.died(err))
		}
	case <-timeout.C:
		return t.undoCommit(ctx, failure{class: BadBinary, deaf: true, reason: fmt.Sprintf("the successor did not take over within %v of commit", commitTimeout)})
	}
	t.successor.Store(int64(t.family.pid))
	t.release()
	return errors.Join(ErrSuperseded, failpoint.Hit("superseded"))
}

// undoCommit makes the running release current again, before the successor
// is ended: that may take a while, and a crash meanwhile must not boot a
// release that is being taken back.
func (t *trial) undoCommit(ctx context.Context, f failure) error {
	return t.rollBack(ctx, f, t.revert)
}

// rollBack resumes serving at once, takes back what was done, makes sure that
// the successor is gone, and records why. Clients come first, files after.
func (t *trial) rollBack(ctx context.Context, f failure, back func() error) error {
	errs := []error{t.gate.resume()}
	t.countPause(f)
	if t.stdio != nil {
		// What follows is this process's log, not the successor's.
		errs = append(errs, t.stdio.restore())
	}
	f.excuse(ctx)
	f.reason = printable(f.reason, reasonBytes)
	state := t.journal.last.State
	errs = append(errs, failpoint.Hit("resumed"),
		// What it has printed so far, for a crash in what follows would lose it.
		t.move(RollingBack, func(a *Attempt) {
			a.Reason, a.Class, a.Log, a.RecalledBy = f.reason, f.class, t.printed(), f.recall
		}),
		failpoint.Hit("rolling-back"))
	if back != nil {
		errs = append(errs, back(), failpoint.Hit("reverted"))
	}
	t.dismiss(f)
	t.release()
	// One that had begun to take over has signed the lock.
	errs = append(errs, signLock(t.lock), failpoint.Hit("dismissed"))
	lines := t.printed()
	f.complete(lines)
	if f.class != "" && !f.ours {
		if err := t.quarantine.add(f.blamed(t.slot.Ref), f.class, f.reason, time.Now()); err != nil {
			t.attemptLog().Error("quarantine could not be written", "error", err)
		}
	}
	errs = append(errs, failpoint.Hit("quarantined"))
	t.attemptLog().Warn("rolled back", "to", t.running.Version, "state", state, "reason", f.reason)
	errs = append(errs, t.rolledBack(func(a *Attempt) { a.Reason, a.Class, a.Log = f.reason, f.class, lines }), failpoint.Hit("rolled-back"))
	return errors.Join(append([]error{t.failed(f)}, errs...)...)
}

// printed are the successor's last lines.
func (t *trial) printed() []string {
	if t.tail == nil {
		return nil
	}
	return t.tail.last()
}

// stopGrace is how much later than its successor an incumbent may hear that
// the agent is told to stop, where both are told.
const stopGrace = 200 * time.Millisecond

// excuse takes the blame from a release whose failure came with the agent's
// own stop, which may have reached the successor first.
func (f *failure) excuse(ctx context.Context) {
	if f.dead {
		wait(ctx, stopGrace, nil)
	}
	if ctx.Err() != nil && f.class != "" {
		f.class, f.reason = "", interrupted+" ("+f.reason+")"
	}
}

// giveUp ends an attempt that has not started anything.
func (u *Upgrader) giveUp(f failure) error {
	return errors.Join(u.failed(f), u.move(Failed, func(a *Attempt) { a.Reason, a.Class = f.reason, f.class }))
}

// failed is f as an error.
func (u *Upgrader) failed(f failure) error {
	return &release.Error{Op: "upgrade", Release: u.journal.last.To.Version, Err: errors.New(f.reason)}
}

// release closes what this process holds of the trial. The log's reader
// ends with the last writer; a grandchild may keep it open, so the wait is
// bounded.
func (t *trial) release() {
	close(t.quit)
	t.searching.Wait()
	if t.far != nil {
		_ = t.far.Close() // a copy
	}
	if t.conn != nil {
		if err := t.conn.Close(); err != nil {
			t.attemptLog().Warn("handover socket", "error", err)
		}
		t.sending.Wait()
	}
	if t.stdio == nil {
		return
	}
	err := t.stdio.restore()
	if t.tail != nil {
		select {
		case <-t.tail.done:
		case <-time.After(time.Second):
		}
	}
	if err := errors.Join(err, t.stdio.close()); err != nil {
		t.attemptLog().Warn("log capture", "error", err)
	}
}

// countPause counts the time in which no process took connections, after this
// one has begun to again. A successor that lives and is heard has taken them all
// the time.
func (t *trial) countPause(f failure) {
	if t.paused.IsZero() {
		return
	}
	pause := time.Duration(0)
	if !t.alive || f.deaf {
		pause = time.Since(t.lived)
	}
	t.count(func(all *totals) *totals { return all.paused(OutcomeRolledBack, pause) })
}
