package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// process is a pidfd, so that nothing else is killed or waited for.
type process int

// openProcess fails for pid 0, which only asks whether there are pidfds.
func openProcess(pid int) (process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ENOSYS) {
		err = errors.ErrUnsupported
	}
	return process(fd), os.NewSyscallError(fmt.Sprintf("pidfd_open of %d", pid), err)
}

func (p process) kill() error {
	return os.NewSyscallError("pidfd_send_signal", unix.PidfdSendSignal(int(p), unix.SIGKILL, nil, 0))
}

// wait returns at the process's death.
func (p process) wait() error {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(p), Events: unix.POLLIN}}, -1) //nolint:gosec // descriptors are small
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
	}
}

func (p process) close() error { return unix.Close(int(p)) }
