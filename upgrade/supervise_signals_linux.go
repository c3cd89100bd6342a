package upgrade

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forwarded lists the signals that a supervisor passes on. Those are left out
// that tell of this process alone or of its terminal, and a SIGHUP or SIGINT
// that is ignored, as under nohup.
func forwarded() []unix.Signal {
	var set []unix.Signal
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGINT} {
		if !signal.Ignored(sig) {
			set = append(set, sig)
		}
	}
	set = append(set, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGTERM, unix.SIGWINCH, unix.SIGIO, unix.SIGPWR)
	// The C libraries keep the first three real-time signals to themselves.
	for sig := unix.Signal(35); sig <= 64; sig++ {
		set = append(set, sig)
	}
	return set
}

func sigset(sigs []unix.Signal) *unix.Sigset_t {
	var set unix.Sigset_t
	bits := 8 * uint(unsafe.Sizeof(set.Val[0]))
	for _, sig := range sigs {
		set.Val[uint(sig-1)/bits] |= 1 << (uint(sig-1) % bits)
	}
	return &set
}

// block blocks sigs on this thread, which must be locked.
func block(sigs []unix.Signal) (undo func(), err error) {
	var before unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, sigset(sigs), &before); err != nil {
		return nil, os.NewSyscallError("pthread_sigmask", err)
	}
	return func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) }, nil
}

// signals is where a supervisor waits. The signals stay blocked, so each is
// in the kernel until the supervisor takes it, and one that it has not taken
// is there for the release that it executes next.
type signals struct {
	set  []unix.Signal
	fd   int // signalfd
	wake int // eventfd: a child has ended
	end  chan os.Signal
	done chan struct{}
}

// openSignals needs a process that was started with set blocked.
func openSignals(set []unix.Signal) (*signals, error) {
	if _, err := block(set); err != nil {
		return nil, err
	}
	fd, err := unix.Signalfd(-1, sigset(set), unix.SFD_CLOEXEC|unix.SFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("signalfd", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("eventfd", err), unix.Close(fd))
	}
	s := &signals{set: set, fd: fd, wake: wake, end: make(chan os.Signal, 1), done: make(chan struct{})}
	// Go never lets SIGCHLD be blocked. One that is lost while another
	// release is executed does no harm: its first act is to look.
	signal.Notify(s.end, unix.SIGCHLD)
	go func() {
		defer close(s.done)
		for range s.end {
			_, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		}
	}()
	return s, nil
}

func (s *signals) close() {
	signal.Stop(s.end)
	close(s.end)
	<-s.done
	_ = unix.Close(s.fd)
	_ = unix.Close(s.wake)
}

// own takes the signals away from the program's handlers and has start, which
// may start a process, run with none of them blocked, as they must not be in
// that process. It returns what arrived meanwhile.
func (s *signals) own(start func() error) (early []unix.Signal, err error) {
	all := make([]os.Signal, 0, len(s.set))
	for _, sig := range s.set {
		all = append(all, sig)
	}
	arrived := make(chan os.Signal, 2*len(all))
	signal.Reset(all...)
	signal.Notify(arrived, all...)
	unblocked := unix.PthreadSigmask(unix.SIG_UNBLOCK, sigset(s.set), nil)
	err = errors.Join(unblocked, start(), unix.PthreadSigmask(unix.SIG_BLOCK, sigset(s.set), nil))
	// This waits until each has been told that was taken from the kernel.
	signal.Stop(arrived)
	for {
		select {
		case sig := <-arrived:
			if n, ok := sig.(unix.Signal); ok {
				early = append(early, n)
			}
		default:
			return early, err
		}
	}
}

// wait returns the signals that have arrived; none after the pause (negative
// for ever), or when a child has ended.
func (s *signals) wait(pause time.Duration) ([]unix.Signal, error) {
	timeout := -1
	if pause >= 0 {
		timeout = int(pause.Milliseconds())
	}
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}, {Fd: int32(s.wake), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, timeout); err != nil && !errors.Is(err, unix.EINTR) {
		return nil, os.NewSyscallError("poll", err)
	}
	var told [8]byte
	_, _ = unix.Read(s.wake, told[:])
	var sigs []unix.Signal
	for {
		var info unix.SignalfdSiginfo
		buf := unsafe.Slice((*byte)(unsafe.Pointer(&info)), unsafe.Sizeof(info))
		n, err := unix.Read(s.fd, buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return sigs, nil
		case err != nil || n != len(buf):
			return nil, fmt.Errorf("signalfd: %d bytes, %w", n, err)
		}
		sigs = append(sigs, unix.Signal(info.Signo))
	}
}
