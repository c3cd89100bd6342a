package upgrade

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// executing reports whether a live process executes a file in dir.
func executing(dir string) bool {
	found := false
	eachProcess(func(_ int, exe string) bool {
		found = strings.HasPrefix(exe, dir+string(filepath.Separator))
		return !found
	})
	return found
}

// findSuccessor returns the pid of the child of this process that executes
// binary, 0 if there is none. A child is not reaped while it is looked for
// here and killed by its pidfd, so the number cannot belong to another.
func findSuccessor(binary string, _ int) int {
	pid := 0
	eachProcess(func(p int, exe string) bool {
		if exe == binary && parentOf(p) == os.Getpid() {
			pid = p
		}
		return pid == 0
	})
	return pid
}

func eachProcess(visit func(pid int, exe string) bool) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		exe, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		if err == nil && !visit(pid, exe) {
			return
		}
	}
}

// parentOf returns the pid of pid's parent, 0 if it is not known.
func parentOf(pid int) int {
	fields := processStat(pid)
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(string(fields[1]))
	return parent
}

// processState returns the letter of pid's state, 0 where there is no such
// process.
func processState(pid int) byte {
	fields := processStat(pid)
	if len(fields) == 0 {
		return 0
	}
	return fields[0][0]
}

// processStat returns the fields of /proc/PID/stat (proc(5)) from the third
// on; the command in field 2 may hold spaces and parentheses, so it is
// skipped from the right.
func processStat(pid int) [][]byte {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
}
