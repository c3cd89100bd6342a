package upgrade

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// boot settles what an interrupted attempt left and makes sure that the
// right release runs: it adopts the executable that was started, or replaces
// this process by current, or, where current has failed to start, by the
// release before. Only the holder of the lock calls it.
func (u *Upgrader) boot() error {
	if err := atomicfile.RemoveTemp(u.cfg.StateDir); err != nil {
		return err
	}
	exe, err := executablePath()
	if err != nil {
		return err
	}
	cur, err := u.slots.current()
	if errors.Is(err, fs.ErrNotExist) {
		ref, err := u.installed(exe)
		if err != nil {
			return err
		}
		u.adopt(exe, ref)
		return nil
	}
	if err != nil {
		return err
	}
	if err := u.resume(cur); err != nil {
		return err
	}
	c, err := u.choose(exe)
	if err != nil {
		return err
	}
	if c, err = u.guard(c, exe); err != nil {
		return err
	}
	switch {
	case c.adopt:
		u.adopt(exe, c.slot.Ref)
	case c.here:
		u.running = c.slot
	default:
		return u.handOver(c.slot)
	}
	return nil
}

// choose decides between the executable that was started and current.
func (u *Upgrader) choose(exe string) (choice, error) {
	cur, err := u.slots.current()
	if err != nil {
		return choice{}, err
	}
	if name, inside := u.slots.slotOf(exe); inside {
		return choice{slot: cur, here: name == cur.Name()}, nil
	}
	mine, err := ParseVersion(u.cfg.Version)
	if err != nil {
		return choice{}, err
	}
	theirs, err := ParseVersion(cur.Version)
	if err != nil {
		return choice{}, err
	}
	if mine.LessThan(theirs) {
		// The common case after an upgrade: it needs no digest.
		return choice{slot: cur}, nil
	}
	ref, err := u.installed(exe)
	if err != nil {
		return choice{}, err
	}
	if ref.Binary == cur.Ref.Binary {
		return choice{slot: cur, here: true}, nil
	}
	if _, err := u.slots.open(slotName(ref)); err == nil {
		// It was adopted once and has been replaced since.
		return choice{slot: cur}, nil
	}
	if err := u.quarantine.check(ref, time.Now()); err != nil {
		u.log.Warn("the installed executable is not adopted", "version", u.cfg.Version, "error", err)
		return choice{slot: cur}, nil
	}
	return choice{slot: u.slots.slot(Slot{Ref: ref, Adopted: true}), here: true, adopt: true}, nil
}

// installed describes the executable that was started, outside the slots.
func (u *Upgrader) installed(exe string) (Ref, error) {
	digest, err := fileDigest(exe)
	return Ref{Version: u.cfg.Version, Binary: digest}, err
}

// adopt has the started executable become the current release once it
// serves: one that never did is no release to boot, and a start that fails
// leaves nothing behind.
func (u *Upgrader) adopt(exe string, ref Ref) {
	u.running = u.slots.slot(Slot{Ref: ref, Adopted: true})
	u.adoptable = exe
}

// adoptRunning does what adopt has put off.
func (u *Upgrader) adoptRunning() error {
	if u.adoptable == "" {
		return nil
	}
	slot, err := u.slots.adopt(u.adoptable, u.running.Ref)
	if err != nil {
		return fmt.Errorf("the installed executable cannot be kept in the state directory: %w; make room there and start again", err)
	}
	if err := u.slots.prove(slot, time.Now()); err != nil {
		return err
	}
	u.log.Info("executable adopted", "version", slot.Version, "slot", slot.Name())
	return nil
}

// handOver replaces this process by the current release, under the same pid.
// The lock is dropped by close-on-exec and taken again by current.
func (u *Upgrader) handOver(cur Slot) error {
	u.log.Info("current release is executed", "version", cur.Version, "slot", cur.Name(), "started", u.cfg.Version)
	if err := os.Setenv(bootVariable, cur.Name()); err != nil {
		return err
	}
	return fmt.Errorf("execute current release %s: %w", cur.binary(), execute(cur.binary()))
}

// resume ends the attempt that the journal shows in progress, for no other
// process is alive that could: what had not reached commit is undone, what
// had moved current is finished.
func (u *Upgrader) resume(cur Slot) error {
	last := u.journal.last
	var err error
	switch last.State {
	case Idle, Committed, RolledBack, Failed:
		return nil
	case Requested, Downloading, Verifying, Staged:
		err = u.move(Failed, func(a *Attempt) { a.Reason = "interrupted: the agent ended while " + string(last.State) })
	case Committing:
		if cur.Ref.Binary != last.To.Binary {
			err = u.undo("interrupted: both processes ended before the boot pointer moved")
			break
		}
		// The pointer moved, so the release had passed its probation.
		if err = u.slots.prove(cur, time.Now()); err == nil {
			err = u.move(Committed, func(a *Attempt) { a.Reason = "finished at start: the agent ended during commit" })
		}
	case RollingBack:
		err = errors.Join(u.revert(), u.finishRollback(last))
	default:
		err = u.undo("interrupted: both processes ended during " + string(last.State))
	}
	if err != nil && u.journal.last.State.Terminal() {
		// A full disk must not keep the agent from starting.
		u.log.Error("the end of the interrupted attempt could not be written", "error", err)
		return nil
	}
	return err
}

// finishRollback ends a rollback that was interrupted. One that the boot
// guard began is ended as it was meant; of the others it is told that they
// were finished here.
func (u *Upgrader) finishRollback(last Attempt) error {
	return u.rolledBack(func(a *Attempt) {
		if !last.Abandoned {
			a.Reason = "finished at start: " + last.Reason
		}
	})
}

// undo rolls the attempt of the journal back after both processes have ended.
func (u *Upgrader) undo(reason string) error {
	moved := u.move(RollingBack, func(a *Attempt) { a.Reason = reason })
	return errors.Join(moved, u.revert(), u.rolledBack(nil))
}

// revert makes the release that the journal's attempt came from current
// again, if it is not.
func (u *Upgrader) revert() error { return u.slots.revert(u.journal.last, time.Now()) }

// executablePath is where this process's executable lies, links resolved.
func executablePath() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(exe)
}
