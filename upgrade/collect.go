package upgrade

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/upgrade/release"
)

// remove deletes a slot, complete first, so that a crash leaves an
// unfinished slot and never a complete one with parts missing.
func (s slots) remove(name string) error {
	if err := failpoint.Hit("collect-before-complete"); err != nil {
		return err
	}
	dir := filepath.Join(s.root(), name)
	if err := os.Remove(filepath.Join(dir, completeFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := atomicfile.SyncDir(dir); err != nil {
		return err
	}
	if err := failpoint.Hit("collect-after-complete"); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// collect deletes unfinished slots, slots that failed, proven ones that have
// been retired for longer than retention, and, the oldest first, those that
// take replaced releases beyond budget bytes. It spares the slots called
// keep, the current one, the one that was replaced last within its retention,
// the one that was staged last, for as long as that was asked for, and every slot
// that a live process executes.
func (s slots) collect(keep []string, retention time.Duration, budget int64, now time.Time) (removed []string, err error) {
	complete, unfinished, err := s.list()
	if err != nil {
		return nil, err
	}
	cur, err := s.current()
	if err != nil {
		return nil, err
	}
	doomed, staged := unfinished, s.lastStaged(complete, now)
	var retired []Slot
	for _, slot := range complete {
		if slot.Name() == cur.Name() {
			continue
		}
		if slot.Retired.IsZero() && !slot.Proven.IsZero() {
			// A crash came between the move of current and this mark.
			slot.Retired = now.UTC()
			if err := slot.save(); err != nil {
				return nil, err
			}
		}
		if slot.Adopted && !slot.Proven.IsZero() && !slot.olderThan(cur) {
			// What was rolled back from: without this slot, the installed
			// executable would be adopted again at the next start.
			continue
		}
		switch {
		case slot.Name() == staged:
		case slot.Proven.IsZero() || now.Sub(slot.Retired) >= retention && !now.Before(slot.Keep):
			doomed = append(doomed, slot.Name())
		default:
			retired = append(retired, slot)
		}
	}
	doomed = append(doomed, beyond(retired, budget)...)
	for _, name := range doomed {
		if slices.Contains(keep, name) || executing(filepath.Join(s.root(), name)) {
			continue
		}
		if err := s.remove(name); err != nil {
			return removed, err
		}
		removed = append(removed, name)
	}
	return removed, failpoint.Hit("collected")
}

// lastStaged names the slot that is kept for an upgrade that is to come, "" for
// none: one is, so that whoever asks for many fills no disk, and one that has
// failed here for its own sake is not.
func (s slots) lastStaged(complete []Slot, now time.Time) (name string) {
	var last time.Time
	for _, slot := range complete {
		if slot.kept(now) && slot.Staged.At.After(last) && !quarantine(s).forGood(slot.Ref) {
			name, last = slot.Name(), slot.Staged.At
		}
	}
	return name
}

// olderThan compares versions; one that cannot be read is older.
func (s Slot) olderThan(other Slot) bool {
	mine, err := release.ParseVersion(s.Version)
	if err != nil {
		return true
	}
	theirs, err := release.ParseVersion(other.Version)
	return err != nil || mine.LessThan(theirs)
}

// beyond names the retired slots that do not fit into budget bytes. The one
// that was replaced last always fits: it is what a rollback goes to.
func beyond(retired []Slot, budget int64) (names []string) {
	slices.SortFunc(retired, func(a, b Slot) int { return b.Retired.Compare(a.Retired) })
	var sum int64
	for i, slot := range retired {
		if sum += slot.size(); i > 0 && sum > budget {
			names = append(names, slot.Name())
		}
	}
	return names
}
