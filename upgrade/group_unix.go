//go:build unix

package upgrade

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// standApart makes this process the founder of a process group and marks
// what it starts, so that a trial that fails can be ended with all of it. It
// returns the group that the process was in.
func standApart() (group int, err error) {
	group = unix.Getpgrp()
	// EPERM: a session's leader founded its group already.
	if err := unix.Setpgid(0, 0); err != nil && !errors.Is(err, unix.EPERM) {
		return group, os.NewSyscallError("setpgid", err)
	}
	return group, os.Setenv(familyVariable, strconv.Itoa(os.Getpid()))
}

// comeBack ends what standApart began: a process in charge belongs where its
// predecessor was, so that a terminal's Ctrl-C and whoever signals the group
// go on reaching it. A group that has died out stays left.
func comeBack(group int) error {
	_ = unix.Setpgid(0, group)
	return os.Unsetenv(familyVariable)
}
