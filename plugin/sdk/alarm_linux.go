package sdk

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// alarm is a timer of the kernel's that kills this process. It goes off also
// when no thread of the process gets to run any more.
type alarm struct{ id int32 }

// sigevent is struct sigevent of <signal.h>: 64 bytes.
type sigevent struct {
	value  uintptr
	signo  int32
	notify int32
	_      [64 - unsafe.Sizeof(uintptr(0)) - 8]byte
}

// itimerspec is struct itimerspec of <time.h>.
type itimerspec struct{ interval, value unix.Timespec }

// newAlarm returns nil where the kernel refuses: the plugin then ends only by
// itself.
func newAlarm() *alarm {
	const sigevSignal = 0
	a := &alarm{}
	event := sigevent{signo: int32(unix.SIGKILL), notify: sigevSignal}
	_, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&a.id))) //nolint:gosec // as unsafe.Pointer allows for system calls
	if errno != 0 {
		Logger().Warn("no timer for the case that this process hangs without a host", "error", errno)
		return nil
	}
	return a
}

// set has it go off in d, whatever was set before.
func (a *alarm) set(d time.Duration) {
	if a == nil {
		return
	}
	spec := itimerspec{value: unix.NsecToTimespec(d.Nanoseconds())}
	// It cannot fail: the timer is this process's own and d is positive.
	_, _, _ = unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(a.id), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0) //nolint:gosec // the same
}
