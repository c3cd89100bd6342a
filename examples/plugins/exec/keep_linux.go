package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// sweepEvery is how often what is left is killed: the killed ones' children
	// become the keeper's.
	sweepEvery = 10 * time.Millisecond
	// sweepFor bounds that: a process in an uninterruptible call does not end.
	sweepFor = 5 * time.Second
)

// keeping is the state of a keeper process. One goroutine owns it: a process
// that it has not reaped keeps its id, and so no signal hits another.
type keeping struct {
	main   int // the command's process, 0 once it is reaped
	report report
	none   bool // no child is left
}

// keep is the keeper's main function. It returns the exit code.
func keep() int {
	// The command is to die with the keeper, which the kernel takes for: with
	// the thread that started it.
	runtime.LockOSThread()
	syscall.CloseOnExec(orderFile)
	syscall.CloseOnExec(reportFile)
	orders, out := os.NewFile(orderFile, "order"), os.NewFile(reportFile, "report")
	if orders == nil || out == nil {
		return 2
	}
	// The keeper ends when its plugin does, not before. The command would
	// inherit what is ignored, but not what is caught.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	var k keeping
	if err := k.run(orders); err != nil && k.report.Error == "" {
		k.report.Error = err.Error()
	}
	data, err := json.Marshal(k.report)
	if err == nil {
		_, err = out.Write(data)
	}
	if err != nil {
		return 1
	}
	return 0
}

func (k *keeping) run(orders *os.File) error {
	lines := bufio.NewReader(orders)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("no order came: %w", err)
	}
	var o order
	if err := json.Unmarshal(line, &o); err != nil || len(o.Argv) == 0 {
		return fmt.Errorf("an order of another form came: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming the parent of what a command leaves: %w", err)
	}
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	if err := k.start(o); err != nil {
		return err
	}
	end := make(chan struct{})
	go func() {
		defer close(end)
		_, _ = io.Copy(io.Discard, lines)
	}()
	k.await(died, end, time.Duration(o.GraceMillis)*time.Millisecond)
	return k.sweep(died)
}

func (k *keeping) start(o order) error {
	cmd := exec.Command(o.Argv[0], o.Argv[1:]...) //nolint:gosec,noctx // the settings' command; ended by signals
	cmd.Env, cmd.Dir = o.Env, o.Dir
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if a := o.Account; a != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.UID, Gid: a.GID, Groups: a.Groups}
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	k.main = cmd.Process.Pid
	// Whoever holds the other ends is to see the command's end.
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = null.Close() }()
	return errors.Join(unix.Dup3(int(null.Fd()), 1, unix.O_CLOEXEC), unix.Dup3(int(null.Fd()), 2, unix.O_CLOEXEC))
}

// await returns once the command has ended: by itself, or told to.
func (k *keeping) await(died <-chan os.Signal, end <-chan struct{}, grace time.Duration) {
	var late <-chan time.Time
	for k.reap(); k.main != 0; k.reap() {
		select {
		case <-died:
		case <-end:
			end = nil
			k.report.Ended = true
			_ = syscall.Kill(-k.main, syscall.SIGTERM)
			late = time.After(grace)
		case <-late:
			_ = syscall.Kill(-k.main, syscall.SIGKILL)
		}
	}
}

// reap takes leave of every child that has ended.
func (k *keeping) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR: //nolint:errorlint // Wait4 wraps nothing
			continue
		case err != nil:
			k.none = true
			return
		case pid == 0:
			return
		case pid == k.main:
			k.main = 0
			if status.Signaled() { //nolint:misspell // as syscall spells it
				k.report.Signal = unix.SignalName(status.Signal())
			} else {
				code := status.ExitStatus()
				k.report.ExitCode = &code
			}
		}
	}
}

// sweep kills what the command has left, until nothing is.
func (k *keeping) sweep(died <-chan os.Signal) error {
	again := time.NewTicker(sweepEvery)
	defer again.Stop()
	late := time.After(sweepFor)
	for k.reap(); !k.none; k.reap() {
		left, err := children()
		if err != nil {
			return fmt.Errorf("what it left was not ended: %w", err)
		}
		var denied error
		for _, pid := range left {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && denied == nil {
				denied = fmt.Errorf("process %d: %w", pid, err)
			}
		}
		select {
		case <-died:
		case <-again.C:
		case <-late:
			return errors.Join(fmt.Errorf("%d processes that it left do not end", len(left)), denied)
		}
	}
	return nil
}

// children are the processes whose parent this one is.
func children() ([]int, error) {
	names, err := readNames("/proc")
	if err != nil {
		return nil, err
	}
	own := os.Getpid()
	var found []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		data, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it has ended
		}
		if parent, ok := parentOf(data); ok && parent == own {
			found = append(found, pid)
		}
	}
	return found, nil
}

// parentOf reads "pid (name) state parent …"; a name may hold anything.
func parentOf(stat []byte) (int, bool) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0, false
	}
	parent, err := strconv.Atoi(string(fields[1]))
	return parent, err == nil
}

func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	return d.Readdirnames(-1)
}
