package plugin

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"
)

// maxEnviron bounds what is read of a process's environment, in bytes.
const maxEnviron = 1 << 20

// strayTimeout bounds the hunt for descendants that go on forking.
const strayTimeout = 2 * time.Second

// endStrays kills every process whose environment has room's mark, wherever it
// has gone, until there are none.
func endStrays(room string) {
	mark := []byte(roomKey + "=" + room)
	passes := 1
	for begin := time.Now(); passes > 0 && time.Since(begin) < strayTimeout; passes-- {
		if killMarked(mark) > 0 {
			passes = 4 // where there was one, another may have been missed while it forked
		}
	}
}

// killMarked returns how many live processes with the mark it has found.
func killMarked(mark []byte) int {
	proc, err := os.Open("/proc")
	if err != nil {
		return 0
	}
	defer func() { _ = proc.Close() }()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return 0
	}
	found := 0
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() || !marked(pid, mark) {
			continue
		}
		h, err := openHandle(pid)
		if err != nil {
			continue
		}
		// Again, now that the id cannot change hands.
		if marked(pid, mark) && h.signal(syscall.SIGKILL) == nil {
			found++
		}
		h.close()
	}
	return found
}

// marked reports whether the process has the mark. A zombie has none.
func marked(pid int, mark []byte) bool {
	f, err := os.Open(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	env, err := io.ReadAll(io.LimitReader(f, maxEnviron))
	if err != nil {
		return false
	}
	for entry := range bytes.SplitSeq(env, []byte{0}) {
		if bytes.Equal(entry, mark) {
			return true
		}
	}
	return false
}
