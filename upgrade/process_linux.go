package upgrade

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// process is one line of the process table (proc(5)).
type process struct {
	pid, parent, group int
	state              byte
	start              uint64 // in clock ticks since boot; pid and start name a process for ever
}

// dead is true of what only waits to be reaped.
func (p process) dead() bool { return p.state == 'Z' || p.state == 'X' }

// processes returns the process table without those that ended meanwhile.
func processes() []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var all []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, ok := processOf(pid); ok {
			all = append(all, p)
		}
	}
	return all
}

// processOf reads /proc/PID/stat; the command in field 2 may hold spaces and
// parentheses, so it is skipped from the right.
func processOf(pid int) (process, bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, false
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return process{}, false
	}
	p := process{pid: pid, state: fields[0][0]}
	var errs [3]error
	p.parent, errs[0] = strconv.Atoi(string(fields[1]))
	p.group, errs[1] = strconv.Atoi(string(fields[2]))
	p.start, errs[2] = strconv.ParseUint(string(fields[19]), 10, 64)
	return p, errs == [3]error{}
}

// executableOf is empty where it cannot be told.
func executableOf(pid int) string {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return ""
	}
	return exe
}

// executing reports whether a live process executes a file in dir.
func executing(dir string) bool {
	for _, p := range processes() {
		if strings.HasPrefix(executableOf(p.pid), dir+string(filepath.Separator)) {
			return true
		}
	}
	return false
}

// parentOf returns the pid of pid's parent, 0 if there is no such process.
func parentOf(pid int) int {
	p, _ := processOf(pid)
	return p.parent
}
