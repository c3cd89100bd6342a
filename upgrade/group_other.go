//go:build unix && !linux

package upgrade

import "golang.org/x/sys/unix"

// killGroup ends the group that the process pid founded, if it did.
func killGroup(pid int) {
	if group, err := unix.Getpgid(pid); err == nil && group == pid && group != unix.Getpgrp() {
		_ = unix.Kill(-group, unix.SIGKILL)
	}
}
