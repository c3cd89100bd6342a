package upgrade

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// heir is the process that holds the state directory now that the followed
// one has ended; 0 if there is none. A successor whose incumbent was killed
// has not signed the lock yet, but its parent's death has made it a child of
// this process; a process that is just being started has the lock open as well
// for a moment, and is not.
func (s *supervisor) heir() int {
	if signed := s.signed(); s.holds(signed) {
		return signed
	}
	for _, pid := range descendants(os.Getpid()) {
		if parentOf(pid) == os.Getpid() && s.holds(pid) {
			return pid
		}
	}
	return 0
}

// signed is the pid that the lock names, 0 if it cannot be read just now or
// no process of this agent has signed it yet.
func (s *supervisor) signed() int {
	path := filepath.Join(s.StateDir, lockName)
	info, err := os.Stat(path)
	if err != nil || info.ModTime().Equal(s.stale) {
		return 0
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0
	}
	return pid
}

// holds reports whether pid is a live descendant that has the lock open.
func (s *supervisor) holds(pid int) bool {
	if pid <= 1 || !alive(pid) || !descends(pid, os.Getpid()) {
		return false
	}
	lock, err := os.Stat(filepath.Join(s.StateDir, lockName))
	if err != nil {
		return false
	}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrPermission) {
		// It has changed its user. Its signature has to do.
		return pid == s.signed()
	}
	for _, e := range entries {
		if f, err := os.Stat(filepath.Join(dir, e.Name())); err == nil && os.SameFile(f, lock) {
			return true
		}
	}
	return false
}

// descends reports whether ancestor is an ancestor of pid.
func descends(pid, ancestor int) bool {
	for pid > 1 {
		if pid = parentOf(pid); pid == ancestor {
			return pid != 0
		}
	}
	return false
}

// descendants returns the live ones of pid.
func descendants(pid int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []int
	for _, e := range entries {
		if p, err := strconv.Atoi(e.Name()); err == nil && descends(p, pid) && alive(p) {
			found = append(found, p)
		}
	}
	return found
}

// alive reports whether pid is a process that has not ended.
func alive(pid int) bool {
	p, ok := processOf(pid)
	return ok && !p.dead()
}
