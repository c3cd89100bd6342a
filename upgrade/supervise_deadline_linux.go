package upgrade

import (
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sigevent is the kernel's struct sigevent (sigevent(3type)).
type sigevent struct {
	value  uintptr
	signo  int32
	notify int32 // 0 is SIGEV_SIGNAL
	_      [56]byte
}

// endAfter has the kernel kill this process after d. Unlike anything that the
// process could do itself, and unlike SIGALRM, that ends it even while it is
// stopped.
func endAfter(d time.Duration) error {
	event := sigevent{signo: int32(unix.SIGKILL)}
	var timer int32
	if _, _, errno := unix.RawSyscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&timer))); errno != 0 { //nolint:gosec // as the kernel wants it
		return os.NewSyscallError("timer_create", errno)
	}
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(d.Nanoseconds())}
	if _, _, errno := unix.RawSyscall6(unix.SYS_TIMER_SETTIME, uintptr(timer), 0, uintptr(unsafe.Pointer(&at)), 0, 0, 0); errno != 0 { //nolint:gosec // as the kernel wants it
		return os.NewSyscallError("timer_settime", errno)
	}
	return nil
}
