package upgrade

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A signal that arrives while the supervisor executes another release finds
// no handler: from the exec until the new image has called signal.Notify,
// SIGTERM would end the supervisor. Blocking does not help, for Go's runtime
// unblocks SIGHUP, SIGINT, SIGQUIT and SIGTERM in every thread before it has
// installed a handler. So a child, the keeper, traces the supervisor for
// these milliseconds and keeps every signal that is about to be delivered,
// until the new image takes them over.

const (
	// hirePatience bounds how long a keeper takes to begin. For so long the
	// supervisor forwards nothing.
	hirePatience = 3 * time.Second
	// keeperPatience bounds how long a keeper waits for the new image, and
	// that for a keeper that does not answer.
	keeperPatience = 20 * time.Second
	// seizePatience is how long a keeper waits to be allowed to trace: its
	// supervisor allows it only once it knows its pid.
	seizePatience = 200 * time.Millisecond
)

// The keeper's descriptors.
const (
	keeperTells = 3 // one byte when it keeps, and then the signals it kept
	keeperHears = 4 // ends when it is to stop
)

// hireKeeper starts a keeper and returns once it keeps.
func hireKeeper() (k keeper, err error) {
	var tells, hears [2]int
	if err := unix.Pipe2(tells[:], unix.O_CLOEXEC); err != nil {
		return k, os.NewSyscallError("pipe", err)
	}
	if err := unix.Pipe2(hears[:], unix.O_CLOEXEC); err != nil {
		return k, errors.Join(os.NewSyscallError("pipe", err), unix.Close(tells[0]), unix.Close(tells[1]))
	}
	k = keeper{tells: tells[0], hears: hears[1]}
	// The file may have been replaced under its name.
	pid, err := syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{
		Env:   superviseEnviron(keepsVariable, strconv.Itoa(os.Getpid())),
		Files: []uintptr{0, 1, 2, uintptr(tells[1]), uintptr(hears[0])},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	err = errors.Join(err, unix.Close(tells[1]), unix.Close(hears[0]))
	if err != nil {
		return k, errors.Join(err, k.dismissed())
	}
	// Where Yama lets only parents trace; EINVAL without it.
	_ = unix.Prctl(unix.PR_SET_PTRACER, uintptr(pid), 0, 0, 0)
	err = errors.New("signals cannot be kept: ptrace is not allowed here")
	var told [1]byte
	if !readable(k.tells, time.Now().Add(hirePatience)) {
		err = fmt.Errorf("signals cannot be kept: their keeper has not begun within %v", hirePatience)
	} else if n, _ := unix.Read(k.tells, told[:]); n == 1 {
		return k, nil
	}
	_ = unix.Kill(pid, unix.SIGKILL)
	return k, errors.Join(err, k.dismissed())
}

// readable waits until reading from fd does not block, or for limit.
func readable(fd int, limit time.Time) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} //nolint:gosec // a descriptor
	for {
		left := max(0, time.Until(limit))
		n, err := unix.Poll(fds, int((left+time.Millisecond-1)/time.Millisecond))
		if n > 0 {
			return true
		}
		if left == 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return false
		}
	}
}

// survive lets the descriptors live through an exec, or not.
func (k keeper) survive(yes bool) {
	if k.hears == 0 {
		return
	}
	flag := unix.FD_CLOEXEC
	if yes {
		flag = 0
	}
	_, _ = unix.FcntlInt(uintptr(k.tells), unix.F_SETFD, flag)
	_, _ = unix.FcntlInt(uintptr(k.hears), unix.F_SETFD, flag)
}

// dismissed ends the keeper.
func (k keeper) dismissed() error { return errors.Join(unix.Close(k.hears), unix.Close(k.tells)) }

// relieve ends the keeper and returns what it has kept. This process must
// listen by now. A keeper that does not answer within patience is left to its
// deadline.
func (k keeper) relieve(patience time.Duration) []unix.Signal {
	if k.hears == 0 {
		return nil
	}
	_ = unix.Close(k.hears)
	defer func() { _ = unix.Close(k.tells) }()
	var sigs []unix.Signal
	for limit := time.Now().Add(patience); readable(k.tells, limit); {
		var kept [64]byte
		n, err := unix.Read(k.tells, kept[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n <= 0 {
			break
		}
		for _, b := range kept[:n] {
			sigs = append(sigs, unix.Signal(b))
		}
	}
	return sigs
}

// keep is the keeper's life.
func keep(pid int) error {
	// ptrace knows one thread as the tracer.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// While this process is stopped, what it traces is too.
	err := endAfter(2 * keeperPatience)
	if err == nil {
		err = seize(pid)
	}
	if err != nil {
		// The supervisor, told nothing, warns.
		return nil //nolint:nilerr // see above
	}
	if _, err := unix.Write(keeperTells, []byte{1}); err != nil {
		return err
	}
	set := forwarded()
	var kept []byte
	for limit := time.Now().Add(keeperPatience); time.Now().Before(limit); {
		some, err := letRun(func(sig unix.Signal) bool {
			if !slices.Contains(set, sig) {
				return false
			}
			if b := byte(sig); !slices.Contains(kept, b) { //nolint:gosec // at most 64
				kept = append(kept, b)
			}
			return true
		})
		if errors.Is(err, unix.ECHILD) {
			// The supervisor has ended.
			return nil
		}
		if err != nil {
			return err
		}
		if some {
			continue
		}
		fds := []unix.PollFd{{Fd: keeperHears, Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 1); n > 0 && err == nil {
			break
		}
	}
	// What is stopped at this moment goes on, its signal delivered, when the
	// tracer ends.
	_, err = unix.Write(keeperTells, kept)
	return err
}

// seize traces every thread of pid, and those that they start.
func seize(pid int) error {
	seized := map[int]bool{}
	for limit := time.Now().Add(seizePatience); ; {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
		if err != nil {
			return err
		}
		again := false
		for _, task := range tasks {
			tid, err := strconv.Atoi(filepath.Base(task))
			if err != nil || seized[tid] {
				continue
			}
			seized[tid], again = true, true
			if err := seizeThread(tid, limit); err != nil {
				return err
			}
		}
		if _, err := letRun(func(unix.Signal) bool { return false }); err != nil {
			return err
		}
		if !again {
			return nil
		}
	}
}

// seizeThread traces tid. Until limit it does not take no for an answer.
func seizeThread(tid int, limit time.Time) error {
	for {
		_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(tid), 0, unix.PTRACE_O_TRACECLONE, 0, 0)
		// One that has ended, and one that was traced from its start.
		if errno == 0 || errno == unix.ESRCH || traced(tid) {
			return nil
		}
		if errno != unix.EPERM || time.Now().After(limit) {
			return os.NewSyscallError("ptrace", errno)
		}
		_, _ = unix.Poll(nil, 1) // no file tells of the permission
	}
}

// letRun lets each thread go on that has stopped, without its signal where
// hold takes it.
func letRun(hold func(unix.Signal) bool) (some bool, err error) {
	for {
		var status unix.WaitStatus
		tid, err := unix.Wait4(-1, &status, unix.WALL|unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return some, os.NewSyscallError("wait4", err)
		case tid == 0:
			return some, nil
		case !status.Stopped():
			continue
		}
		some = true
		sig := status.StopSignal()
		// A stop with an event in the upper bits is none of a signal.
		if uint32(status)>>16 != 0 || hold(sig) {
			sig = 0
		}
		// It may have been killed meanwhile.
		if err := unix.PtraceCont(tid, int(sig)); err != nil && !errors.Is(err, unix.ESRCH) {
			return some, os.NewSyscallError("ptrace", err)
		}
	}
}

// traced reports whether this process traces the thread tid.
func traced(tid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	return err == nil && strings.Contains(string(status), fmt.Sprintf("\nTracerPid:\t%d\n", os.Getpid()))
}
