package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// adopt makes this process the parent of descendants whose parent has ended.
func adopt() error {
	const setChildSubreaper = 36 // PR_SET_CHILD_SUBREAPER, prctl(2)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0); errno != 0 {
		return os.NewSyscallError("prctl", errno)
	}
	return nil
}

// isolate keeps the terminal's interrupt from the process: it is ended in
// good order, not all at once.
func isolate(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// children lists the children of this process, zombies too.
func children() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has ended
		}
		// The parent is the second field after the command, which is in
		// parentheses and may hold any character (proc(5)).
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) > 1 && string(fields[1]) == strconv.Itoa(os.Getpid()) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// reap waits for a child if it has ended; the error says that it failed.
func reap(pid int) (gone bool, err error) {
	var status syscall.WaitStatus
	got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
	switch {
	case err != nil || got != pid:
		return false, nil //nolint:nilerr // interrupted, or not ended yet: the caller asks again
	case status.Exited() && status.ExitStatus() == 0:
		return true, nil
	case status.Exited():
		return true, fmt.Errorf("process %d ended with exit code %d", pid, status.ExitStatus())
	}
	return true, fmt.Errorf("process %d was ended by signal %v", pid, status.Signal())
}

// signalTo sends a signal to a child; one that has just ended has no use
// for it.
func signalTo(pid int, sig syscall.Signal) { _ = syscall.Kill(pid, sig) }
