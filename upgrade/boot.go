package upgrade

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/upgrade/release"
)

// boot settles what an interrupted attempt left and makes sure that the
// right release runs: it adopts the executable that was started, or replaces
// this process by current, or, where current has failed to start, by the
// release before. Only the holder of the lock calls it.
func (u *Upgrader) boot() error {
	u.tidy()
	u.resumed = takeResumption()
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
	u.resume(cur)
	c, err := u.choose(exe)
	if err != nil {
		return err
	}
	if c, err = u.guard(c, exe); err != nil {
		return err
	}
	if !c.here {
		return u.handOver(c.slot)
	}
	if u.running = c.slot; c.adopt {
		u.adopt(exe, c.slot.Ref)
	}
	u.endRollback()
	u.traceResume()
	return nil
}

// adoptServing is adoptRunning for one that serves already. Where there is a
// current release a full disk does not end it: it serves, and upgrades are
// refused until there is room.
func (u *Upgrader) adoptServing() error {
	err := u.adoptRunning()
	if err == nil {
		return nil
	}
	if _, none := u.slots.current(); none != nil {
		return err
	}
	u.log.Error("the installed executable is not adopted yet", "error", err)
	return nil
}

// tidy removes what interrupted writes have left.
func (u *Upgrader) tidy() {
	entries, err := os.ReadDir(u.slots.root())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	err = errors.Join(err, atomicfile.RemoveTemp(u.cfg.StateDir))
	for _, e := range entries {
		if e.IsDir() {
			err = errors.Join(err, atomicfile.RemoveTemp(filepath.Join(u.slots.root(), e.Name())))
		}
	}
	if err != nil {
		u.log.Warn("what interrupted writes left could not all be removed", "error", err)
	}
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
	mine, err := release.ParseVersion(u.cfg.Version)
	if err != nil {
		return choice{}, err
	}
	theirs, err := release.ParseVersion(cur.Version)
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
		u.log.Warn("the installed executable is not adopted", "release", u.cfg.Version, "error", err)
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
		return fmt.Errorf("the installed executable cannot be kept in the state directory: %w; %s and start again", err, remedy(err, "make room there"))
	}
	if err := u.slots.prove(slot, time.Now(), 0); err != nil {
		return err
	}
	u.adoptable = ""
	u.log.Info("executable adopted", "release", slot.Version, "slot", slot.Name())
	return nil
}

// handOver replaces this process by the current release, under the same pid.
// The lock is dropped by close-on-exec and taken again by current.
func (u *Upgrader) handOver(cur Slot) error {
	u.log.Info("current release is executed", "release", cur.Version, "slot", cur.Name())
	if err := errors.Join(os.Setenv(bootVariable, cur.Name()), u.resumed.passOn()); err != nil {
		return err
	}
	return fmt.Errorf("execute current release %s: %w", cur.binary(), execute(cur.binary()))
}

// resume settles the attempt that the journal shows in progress, for no other
// process is alive that could: what had not reached commit is undone, what
// had moved current is finished. A rollback is only begun here: the release
// that then runs ends it, for the hooks are its own. A disk that cannot be
// written must not keep the agent from starting.
func (u *Upgrader) resume(cur Slot) {
	last := u.journal.last
	if last.State != Idle && !last.State.Terminal() && u.resumed.state == "" {
		u.found(last.State)
	}
	var err error
	switch last.State {
	case Idle, Committed, RolledBack, Failed:
	case Requested, Downloading, Verifying, Staged:
		err = u.move(Failed, func(a *Attempt) { a.Reason = interruptedIn + string(last.State) })
	case Committing:
		if cur.Ref.Binary != last.To.Binary {
			err = u.goBack(interruptedIn + "commit, before the boot pointer moved")
			break
		}
		// The pointer moved, so the release had passed its probation.
		cur.Rollback = last.comeback()
		err = errors.Join(u.slots.prove(cur, time.Now(), last.Retain),
			u.move(Committed, func(a *Attempt) { a.Reason = "finished at start: the agent ended during commit" }))
	case RollingBack:
		u.blame(last)
		err = u.revert()
	default:
		err = u.goBack(interruptedIn + string(last.State))
	}
	if err != nil {
		u.attemptLog().Error("what the interrupted attempt left could not all be settled", "error", err)
	}
}

// interruptedIn begins the reason of an attempt that a start found.
const interruptedIn = "interrupted: the agent ended during "

// endRollback ends a rollback that was interrupted, or that the boot guard has
// begun, in the release that runs now.
func (u *Upgrader) endRollback() {
	last := u.journal.last
	if last.State != RollingBack {
		return
	}
	err := u.rolledBack(func(a *Attempt) {
		if last.By != ByBootGuard && !strings.HasPrefix(last.Reason, interruptedIn) {
			a.Reason = "finished at start: " + last.Reason
		}
	})
	if err != nil {
		u.attemptLog().Error("the end of the rollback could not be written", "error", err)
	}
}

// blame quarantines a release whose rollback was interrupted before that.
func (u *Upgrader) blame(last Attempt) {
	if last.Class != BadBinary || last.Abandoned || u.quarantine.check(last.To, time.Now()) != nil {
		return
	}
	if err := u.quarantine.add(last.To, last.Class, last.Reason, time.Now()); err != nil {
		u.attemptLog().Error("quarantine could not be written", "error", err)
	}
}

// goBack begins the rollback of the journal's attempt after both processes
// have ended.
func (u *Upgrader) goBack(reason string) error {
	moved := u.move(RollingBack, func(a *Attempt) { a.Reason = reason })
	return errors.Join(moved, u.revert())
}

// undo is goBack and the end of it.
func (u *Upgrader) undo(reason string) error {
	return errors.Join(u.goBack(reason), u.rolledBack(nil))
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
