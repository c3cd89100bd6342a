package upgrade

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perennial-go/perennial/internal/backoff"
)

// ticksPerSecond is the unit of start times in /proc, USER_HZ, which is the
// same on all platforms of Go.
const ticksPerSecond = 100

// family is a successor and all that it started. A process belongs to it if
// it began after the trial did and
//   - is in the successor's process group, which it founds in Open,
//   - or has inherited familyVariable, which it sets in Open,
//   - or holds the successor's end of the handover socket, as does what it
//     started before Open,
//   - or descends from one that belongs to it.
//
// A process that left the group, has another environment and has lost its
// parent is not found. It cannot be: to become the reaper of all orphans
// (PR_SET_CHILD_SUBREAPER) would burden the host program with those of its
// own children, too.
type family struct {
	binary string // the successor's executable
	socket string // its end of the handover socket, as /proc shows it
	since  uint64 // when the trial began
	pid    int    // the successor's; 0 while it is not known

	met map[int]uint64 // members by pid and start time
}

// newFamily comes before the successor's start. far is its end of the
// handover socket.
func newFamily(binary string, far *os.File) (*family, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return nil, os.NewSyscallError("clock_gettime", err)
	}
	info, err := far.Stat()
	if err != nil {
		return nil, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, fmt.Errorf("handover socket: %T is no stat", info.Sys())
	}
	since := time.Duration(now.Nano()) / (time.Second / ticksPerSecond)
	return &family{
		binary: binary,
		socket: fmt.Sprintf("socket:[%d]", stat.Ino),
		since:  uint64(since), //nolint:gosec // since boot
		met:    map[int]uint64{},
	}, nil
}

// head returns the pid of the successor, 0 while it has not been executed.
// It changes nothing and may be called from any goroutine.
func (f *family) head() int {
	self := os.Getpid()
	for _, p := range processes() {
		if p.parent == self && p.start >= f.since && f.executes(p.pid) {
			return p.pid
		}
	}
	return 0
}

// executes tells the successor from the other children of this process: they
// hold the handover socket only between their fork and their exec, as copies
// of this process.
func (f *family) executes(child int) bool {
	exe := executableOf(child)
	return exe == f.binary || (exe != "" && exe != executableOf(os.Getpid()) && f.holds(child))
}

// holds reports whether a process has the handover socket open.
func (f *family) holds(pid int) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		link, err := os.Readlink(filepath.Join(dir, e.Name()))
		return err == nil && link == f.socket
	})
}

// inherited reports whether a process was given the successor's variable.
func (f *family) inherited(pid int) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return false
	}
	want := []byte(familyVariable + "=" + strconv.Itoa(f.pid))
	return slices.ContainsFunc(bytes.Split(env, []byte{0}), func(v []byte) bool { return bytes.Equal(v, want) })
}

// told is what the successor says of itself. It is believed where the process
// table confirms it: a process whose executable cannot be read, for it made
// itself not dumpable, is not found otherwise.
func (f *family) told(pid int) {
	p, ok := processOf(pid)
	if f.pid == 0 && ok && p.parent == os.Getpid() && p.start >= f.since {
		f.seen(pid)
	}
}

// seen takes note of the successor's pid.
func (f *family) seen(pid int) {
	f.pid = pid
	if p, ok := processOf(pid); ok && p.start >= f.since {
		f.met[pid] = p.start
	}
}

// members returns who lives of the family. It reaps those dead members that
// fell to this process as the reaper of orphans, which pid 1 is.
func (f *family) members() []process {
	self := os.Getpid()
	table := map[int]process{}
	for _, p := range processes() {
		if p.start >= f.since && p.pid != self {
			table[p.pid] = p
		}
	}
	// Whoever descends from one that is found late comes in another round.
	for found := true; found; {
		found = false
		for _, p := range table {
			if f.met[p.pid] != p.start && f.belongs(p, table) {
				f.met[p.pid], found = p.start, true
			}
		}
	}
	var living []process
	for _, p := range table {
		met := f.met[p.pid] == p.start
		switch {
		case met && !p.dead():
			living = append(living, p)
		case p.dead() && p.parent == self && p.pid != f.pid && (met || f.inGroup(p)):
			_, _ = unix.Wait4(p.pid, nil, unix.WNOHANG, nil)
		}
	}
	return living
}

// belongs judges one process of the table of those that began in the trial.
func (f *family) belongs(p process, table map[int]process) bool {
	if p.dead() {
		return false
	}
	if p.parent == os.Getpid() {
		exe := executableOf(p.pid)
		if exe == f.binary {
			return true
		}
		if exe == executableOf(os.Getpid()) {
			return false // a child of this process before its exec
		}
	}
	if parent, ok := table[p.parent]; ok && f.met[parent.pid] == parent.start {
		return true
	}
	if f.pid != 0 && (f.inGroup(p) || f.inherited(p.pid)) {
		return true
	}
	return f.holds(p.pid)
}

// inGroup is wary of a group whose founder is another process that was given
// the successor's pid after its end.
func (f *family) inGroup(p process) bool {
	if f.pid == 0 || p.group != f.pid {
		return false
	}
	founder, ok := processOf(f.pid)
	return !ok || founder.start == f.met[f.pid]
}

// end kills the family and returns how many of it live on after limit.
func (f *family) end(limit time.Duration) int {
	if f.pid == 0 {
		f.seen(f.head())
	}
	deadline := time.Now().Add(limit)
	pause := backoff.Backoff{Min: time.Millisecond, Max: 50 * time.Millisecond}
	for {
		living := f.members()
		if len(living) == 0 || time.Now().After(deadline) {
			return len(living)
		}
		for _, p := range living {
			f.kill(p)
		}
		_ = pause.Wait(context.Background())
	}
}

// kill ends p, and its group in the same instant if it is the successor's:
// one by one, processes that go on forking would win.
func (f *family) kill(p process) {
	handle, err := os.FindProcess(p.pid) // a pidfd
	if err != nil {
		return
	}
	defer func() { _ = handle.Release() }()
	now, ok := processOf(p.pid)
	if !ok || now.start != p.start {
		return
	}
	if now.group == f.pid && f.pid != 0 && f.pid != unix.Getpgrp() {
		_ = unix.Kill(-f.pid, unix.SIGKILL)
	}
	_ = handle.Kill()
}

// condition tells what keeps the successor from going on, if /proc knows.
func (f *family) condition() string {
	p, ok := processOf(f.pid)
	if f.pid == 0 || !ok {
		return ""
	}
	return map[byte]string{
		'T': "its process is stopped by a signal",
		't': "its process is stopped by a debugger",
		'D': "its process waits for a disk or a network file system",
	}[p.state]
}
