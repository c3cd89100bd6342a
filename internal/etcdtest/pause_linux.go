package etcdtest

import (
	"errors"

	"golang.org/x/sys/unix"
)

// awaitStop returns once every thread of a child that was sent SIGSTOP stands
// still: until then it can answer. What the child's Wait wants to know is left.
func awaitStop(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
