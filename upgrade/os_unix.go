//go:build unix

package upgrade

import (
	"errors"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// socketPair returns both ends of a stream socket.
func socketPair() (incumbent, successor *os.File, err error) {
	// No descriptor may leak into a process that another goroutine starts
	// between the two calls: syscall.ForkLock is what os/exec takes.
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, err
	}
	for _, fd := range fds {
		if err := unix.SetNonblock(fd, true); err != nil {
			return nil, nil, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
		}
	}
	return os.NewFile(uintptr(fds[0]), "handover"), os.NewFile(uintptr(fds[1]), "handover"), nil
}

// execute replaces this process by path, keeping its pid, arguments and
// environment. It returns only on failure.
func execute(path string) error {
	return syscall.Exec(path, os.Args, os.Environ())
}

// errTextBusy is what exec answers for a file that is open for writing.
var errTextBusy error = syscall.ETXTBSY

// errReadOnly is what a file system answers that takes no writes.
var errReadOnly error = syscall.EROFS

// isBrokenPipe tells a write to a peer that has gone. tableflip keeps the
// text of the cause only.
func isBrokenPipe(err error) bool { return strings.Contains(err.Error(), syscall.EPIPE.Error()) }
