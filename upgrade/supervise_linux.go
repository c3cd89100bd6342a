package upgrade

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lookEvery is the pause between two looks at what no signal tells: who
	// signs the lock, and whether current has moved.
	lookEvery = 200 * time.Millisecond
	// restAfter is how long nothing has to happen before the supervisor gives
	// its memory back.
	restAfter = time.Second
	// repeatWithin is how long before its end a process must have been sent a
	// signal for its heir not to be sent it too.
	repeatWithin = time.Second
	// orphanPatience is how long what is left of the agent may take to end
	// after SIGTERM, and again after SIGKILL.
	orphanPatience = 5 * time.Second
)

// supervisor is the state of a supervisor between two releases.
type supervisor struct {
	SuperviseConfig
	log     *slog.Logger
	signals *signals
	self    os.FileInfo // of the executable
	serving int         // the process that is followed; 0 when there is none
	// last is how the process ended that was followed before, and deserted
	// is true where the process that it had given the host to was gone.
	last     unix.WaitStatus
	lastPID  int
	deserted bool
	// sent holds when serving was sent which signal last.
	sent map[unix.Signal]time.Time
	// stopping is true once the agent was told to stop, told the processes
	// that know.
	stopping bool
	told     map[int]bool
	// guess is true while the lock does not confirm that serving holds it.
	guess bool
	// stale is when the lock was signed by what ran before the agent was
	// started. Its pid may be that of a new process: they repeat in containers.
	stale time.Time
	// renewed is the pid whose release this process executes, or will not.
	renewed int
}

// follow is the supervisor's life in one release. It follows serving, or
// starts it.
func follow(ctx context.Context, cfg SuperviseConfig, serving int, k keeper) error {
	s := &supervisor{SuperviseConfig: cfg, log: cfg.Logger, serving: serving, sent: map[unix.Signal]time.Time{}, told: map[int]bool{}}
	s.signals = takeSignals()
	defer s.signals.close()
	kept := k.relieve(keeperPatience)
	var err error
	if s.self, err = os.Stat("/proc/self/exe"); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	if s.serving == 0 {
		select {
		case <-ctx.Done():
			return nil
		default:
		}
		if err := s.launch(); err != nil {
			return err
		}
	}
	s.log.Info("supervising", "pid", s.serving, "count", len(kept))
	s.forward(kept)
	return s.watch(ctx)
}

// launch starts the serving process.
func (s *supervisor) launch() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if lock, err := os.Stat(filepath.Join(s.StateDir, lockName)); err == nil {
		s.stale = lock.ModTime()
	}
	// Not os/exec: it would wait for the process, and wait4 below for all.
	s.serving, err = syscall.ForkExec(exe, os.Args, &syscall.ProcAttr{
		Env:   superviseEnviron(supervisorVariable, strconv.Itoa(os.Getpid())),
		Files: []uintptr{0, 1, 2},
		// A key pressed in a terminal must not reach it twice.
		Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return fmt.Errorf("supervise: start %s: %w", exe, err)
	}
	closeActivated()
	return nil
}

// closeActivated gives up the sockets that a service manager passed: the
// serving process has them, and decides how long they are open.
func closeActivated() {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	for fd := 3; err == nil && fd < 3+n; fd++ {
		_ = unix.Close(fd)
	}
}

func (s *supervisor) watch(ctx context.Context) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	rest := time.AfterFunc(restAfter, s.rest)
	defer rest.Stop()
	stop := ctx.Done()
	for {
		if s.reap(); s.serving == 0 {
			s.log.Info("no process of the agent is left", "pid", s.lastPID)
			s.endDescendants()
			return s.verdict()
		}
		tick := look.C
		if s.settle() {
			tick = nil
			rest.Reset(restAfter)
		}
		sig, stopped := s.signals.wait(tick, stop)
		if stopped {
			// By the program itself, or by a signal that came before its
			// handlers were taken down.
			s.stopping, stop = true, nil
		}
		if sig != 0 {
			s.forward([]unix.Signal{sig})
		}
	}
}

// reap takes leave of every process that has ended and, if the followed one
// is among them, follows the one that holds the state directory now.
func (s *supervisor) reap() {
	ended := false
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			break
		}
		if pid == s.serving {
			s.last, s.lastPID, ended = status, pid, true
		}
	}
	if !ended && s.serving != 0 && (s.guess && !s.holds(s.serving) || parentOf(s.serving) != os.Getpid()) {
		// Not the successor after all, or it ended while this process could
		// not see it.
		ended = true
	}
	if !ended {
		return
	}
	before := s.serving
	s.serving = s.heir()
	signed := s.signed()
	s.guess = s.serving != 0 && s.serving != signed
	s.deserted = s.serving == 0 && signed != 0 && signed != before
	if s.serving != 0 && s.serving != before {
		s.log.Info("following", "pid", s.serving, "before", before)
		s.repeat()
	}
}

// repeat sends to the process in charge what the one before was sent in its
// last moments: it may have ended before its handlers ran, and what they
// changed in it has ended with it. Some signals so arrive twice; none is lost.
func (s *supervisor) repeat() {
	var sigs []unix.Signal
	for sig, at := range s.sent {
		if time.Since(at) < repeatWithin {
			sigs = append(sigs, sig)
		}
	}
	clear(s.sent)
	slices.Sort(sigs)
	s.forward(sigs)
}

// settle reports whether nothing is left to look for until the next signal.
func (s *supervisor) settle() bool {
	signed := s.signed()
	if signed == s.serving {
		s.guess = false
	}
	if s.stopping {
		// One that takes over meanwhile has to stop as well.
		s.stop(s.serving)
		if signed != s.serving && s.holds(signed) {
			s.stop(signed)
		}
		return false
	}
	if s.renewed != s.serving && signed == s.serving {
		s.renew()
	}
	return s.renewed == s.serving
}

// stop asks pid to stop, once.
func (s *supervisor) stop(pid int) {
	if !s.told[pid] {
		s.kill(pid, unix.SIGTERM)
	}
}

// renew executes the release of the serving process once that is current.
func (s *supervisor) renew() {
	theirs, err := os.Stat(fmt.Sprintf("/proc/%d/exe", s.serving))
	if err != nil {
		return
	}
	if os.SameFile(s.self, theirs) {
		s.renewed = s.serving
		return
	}
	path, err := filepath.EvalSymlinks(filepath.Join(s.StateDir, currentLink, binaryName))
	if err != nil {
		return
	}
	current, err := os.Stat(path)
	if err != nil || !os.SameFile(current, theirs) {
		// A successor that goes on alone has not committed yet.
		return
	}
	s.renewed = s.serving
	if !s.understood(path) {
		s.log.Warn("the current release cannot supervise: the one before goes on doing so", "path", path)
		return
	}
	s.execute(path)
}

// execute replaces this process by path. It returns only on failure.
func (s *supervisor) execute(path string) {
	k, err := hireKeeper()
	if err != nil {
		s.log.Warn("a signal in the next milliseconds may be lost or end the supervisor", "error", err)
		k = keeper{}
	}
	// What comes from here on is the keeper's.
	s.forward(s.signals.hush())
	if s.stopping {
		s.resume(k)
		return
	}
	s.log.Info("supervisor executes the current release", "path", path, "pid", s.serving)
	k.survive(true)
	err = syscall.Exec(path, os.Args, superviseEnviron(followsVariable, fmt.Sprintf("%d %d %d %d", os.Getpid(), s.serving, k.tells, k.hears)))
	k.survive(false)
	s.log.Error("the current release could not be executed; the one before goes on supervising", "path", path, "error", err)
	s.resume(k)
}

// resume listens to signals again.
func (s *supervisor) resume(k keeper) {
	s.signals.listen()
	s.forward(k.relieve(keeperPatience))
}

// understood reports whether the serving process has called Supervise: a
// release that does not would start another agent under this pid.
func (s *supervisor) understood(exe string) bool {
	data, err := os.ReadFile(filepath.Join(s.StateDir, supervisedFile))
	if err != nil {
		return false
	}
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.serving))
	return err == nil && theirs == exe && string(data) == fmt.Sprintf("%d %s\n", s.serving, exe)
}

// forward sends sigs to the process in charge.
func (s *supervisor) forward(sigs []unix.Signal) {
	for _, sig := range sigs {
		target := s.serving
		if signed := s.signed(); signed != s.serving && s.holds(signed) {
			target = signed
		}
		if target == s.serving {
			s.sent[sig] = time.Now()
		}
		s.kill(target, sig)
		s.stopping = s.stopping || stops(sig)
	}
}

// stops reports whether sig asks the agent to stop.
func stops(sig unix.Signal) bool { return sig == unix.SIGTERM || sig == unix.SIGINT }

// kill signals a descendant. Only one that ended in this very moment, and
// was reaped by its parent, could be mistaken.
func (s *supervisor) kill(pid int, sig unix.Signal) {
	if stops(sig) {
		s.told[pid] = true
	}
	s.log.Debug("signal sent", "signal", unix.SignalName(sig), "pid", pid)
	if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		s.log.Error("signal could not be sent", "signal", unix.SignalName(sig), "pid", pid, "error", err)
	}
}

// endDescendants ends what the agent has left, for the supervisor's end
// would otherwise leave it to somebody else.
func (s *supervisor) endDescendants() {
	// An orphan's end is told to its new parent, but a grandchild's is not.
	look := time.NewTicker(lookEvery / 10)
	defer look.Stop()
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		sent := map[int]bool{}
		for limit := time.Now().Add(orphanPatience); time.Now().Before(limit); {
			s.reap()
			left := descendants(os.Getpid())
			if len(left) == 0 {
				return
			}
			for _, pid := range left {
				if !sent[pid] {
					sent[pid] = true
					s.kill(pid, sig)
				}
			}
			select {
			case <-s.signals.child:
			case <-look.C:
			}
		}
	}
	s.log.Error("descendants could not be ended", "text", fmt.Sprint(descendants(os.Getpid())))
}

// verdict is the result of the supervisor.
func (s *supervisor) verdict() error {
	w := s.last
	sig := w.Signal() // negative if none ended it
	switch {
	case s.lastPID == 0:
		return &ExitError{Code: 1, Reason: "its processes ended while the supervisor could not see it"}
	case s.stopping && stops(sig):
		// Told to stop before it could handle that.
		return nil
	case sig > 0:
		return &ExitError{Code: 128 + int(sig), Reason: fmt.Sprintf("process %d was ended by a signal: %v", s.lastPID, sig)}
	case w.ExitStatus() != 0:
		return &ExitError{Code: w.ExitStatus(), Exited: true, Reason: fmt.Sprintf("process %d ended with exit code %d", s.lastPID, w.ExitStatus())}
	case s.deserted && !s.stopping:
		return &ExitError{Code: 1, Reason: fmt.Sprintf("the process to which %d had given the host ended before it did", s.lastPID)}
	default:
		return nil
	}
}
