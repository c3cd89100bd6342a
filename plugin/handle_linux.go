package plugin

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// toGroup is PIDFD_SIGNAL_PROCESS_GROUP of Linux 6.9.
const toGroup = 1 << 2

// handle is a pidfd: a hold on one process that no later process with its id
// can be taken for. A nil handle holds nothing.
type handle struct {
	f *os.File
}

// openHandle fails with ErrUnsupported before Linux 5.3.
func openHandle(pid int) (*handle, error) {
	fd, err := unix.PidfdOpen(pid, unix.O_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("pidfd_open: %w", err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("pidfd: %w", errors.Join(err, f.Close())) // the poller does not take it
	}
	return &handle{f: f}, nil
}

// await returns nil once the process has ended, a child unreaped, and an error
// once the handle is closed.
func (h *handle) await() error {
	if h == nil {
		return unix.ENOSYS
	}
	conn, err := h.f.SyscallConn()
	if err != nil {
		return err
	}
	// The runtime's poller waits: no thread is spent on it.
	return conn.Read(func(fd uintptr) bool { return readable(int(fd)) })
}

func readable(fd int) bool {
	set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} //nolint:gosec // a descriptor
	for {
		n, err := unix.Poll(set, 0)
		if err != unix.EINTR { //nolint:errorlint // an errno
			return n == 1
		}
	}
}

// gone reports whether the process has ended.
func (h *handle) gone() bool {
	ended := false
	_ = h.use(func(fd int) error {
		ended = readable(fd)
		return nil
	})
	return ended
}

// signal sends to the process alone.
func (h *handle) signal(sig syscall.Signal) error { return h.send(sig, 0) }

// signalGroup sends to the process group that the process leads; it fails
// before Linux 6.9.
func (h *handle) signalGroup(sig syscall.Signal) error { return h.send(sig, toGroup) }

func (h *handle) send(sig syscall.Signal, flags int) error {
	return h.use(func(fd int) error { return unix.PidfdSendSignal(fd, sig, nil, flags) })
}

// use calls f with the descriptor, which nobody closes meanwhile.
func (h *handle) use(f func(fd int) error) error {
	if h == nil {
		return unix.ENOSYS
	}
	conn, err := h.f.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := conn.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		return err
	}
	return ferr
}

func (h *handle) close() {
	if h != nil {
		_ = h.f.Close()
	}
}
