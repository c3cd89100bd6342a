package plugin

import (
	"errors"

	"golang.org/x/sys/unix"
)

// hold enforces with rlimits what held does not say is enforced. They reach
// pid a moment after it has started. One at a time is all that they bound: the
// memory is that of each process.
func (l Limits) hold(pid int, held *holdings) {
	if l.Files != 0 {
		held.add("files", byRlimit, rlimit(pid, unix.RLIMIT_NOFILE, uint64(l.Files))) //nolint:gosec // positive
	}
	if l.MemoryBytes != 0 && !held.holds("memory") {
		held.add("memory", byRlimit, rlimit(pid, unix.RLIMIT_DATA, uint64(l.MemoryBytes))) //nolint:gosec // positive
	}
	if l.CPU != 0 && !held.holds("cpu") {
		held.add("cpu", byRlimit, errors.New("an rlimit cannot: it bounds time in all, not a share"))
	}
	if l.Processes != 0 && !held.holds("processes") {
		// RLIMIT_NPROC counts all that the user runs, the host and other
		// plugins too, and does not bind root.
		held.add("processes", byRlimit, errors.New("an rlimit cannot: it counts all processes of the user"))
	}
}

func rlimit(pid, resource int, value uint64) error {
	return unix.Prlimit(pid, resource, &unix.Rlimit{Cur: value, Max: value}, nil)
}
