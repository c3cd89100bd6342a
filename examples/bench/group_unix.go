//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// ownGroup puts a program and its successors into a process group of their
// own, so that all of them can be ended and nothing else is.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func endGroup(leader int) error  { return signalGroup(leader, syscall.SIGTERM) }
func killGroup(leader int) error { return signalGroup(leader, syscall.SIGKILL) }

func signalGroup(leader int, s syscall.Signal) error {
	err := syscall.Kill(-leader, s)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// groupAlive counts zombies, which only their parent can remove, as dead
// where it can tell.
func groupAlive(leader int) bool {
	if syscall.Kill(-leader, 0) != nil {
		return false
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		return true
	}
	for _, path := range stats {
		if f := statFields(path); len(f) > 2 && f[2] == strconv.Itoa(leader) && f[0] != "Z" {
			return true
		}
	}
	return false
}

// alive is groupAlive for one process.
func alive(pid int) bool {
	if f := statFields(fmt.Sprintf("/proc/%d/stat", pid)); len(f) > 0 {
		return f[0] != "Z"
	}
	return syscall.Kill(pid, 0) == nil
}

// askToUpgrade is what bareflip understands.
func askToUpgrade(pid int) error { return syscall.Kill(pid, syscall.SIGHUP) }

// statFields are those of /proc/PID/stat after the command's name, which may
// hold anything: state, parent, group and so on.
func statFields(path string) []string {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	end := bytes.LastIndexByte(data, ')')
	var fields []string
	for f := range bytes.FieldsSeq(data[end+1:]) {
		fields = append(fields, string(f))
	}
	return fields
}
