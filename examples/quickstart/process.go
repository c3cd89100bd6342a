package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// processes keeps account of all that the quickstart has started, and of
// what they have started: when a parent ends before its child, as an agent
// does before its successor, the child becomes one of this process (adopt).
// So the children of this process are always all that must be ended.
type processes struct {
	all []*process // that were started here

	// temp is the directory for their temporary files.
	temp string
}

// process is one that was started here.
type process struct {
	name string
	log  string // file
	cmd  *exec.Cmd
	done chan struct{}
	err  error // after done
}

// launch starts a process that stays. It writes to the file log, not to a
// pipe: its successors inherit that, and it must outlive everybody.
func (p *processes) launch(name, log string, argv ...string) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	// It is ended by end, in good order, and not by a context.
	cmd := exec.CommandContext(context.Background(), argv[0], argv[1:]...)
	cmd.Env = p.environment()
	cmd.Stdout, cmd.Stderr = file, file
	isolate(cmd)
	c := &process{name: name, log: log, cmd: cmd, done: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p.all = append(p.all, c)
	go func() {
		c.err = cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

// ended reports whether the process has, and how.
func (c *process) ended() (bool, error) {
	select {
	case <-c.done:
		return true, c.err
	default:
		return false, nil
	}
}

// broken returns an error once a process that was started here has failed.
func (p *processes) broken() error {
	for _, c := range p.all {
		if ended, err := c.ended(); ended && err != nil {
			return fmt.Errorf("%s (process %d) ended: %w", c.name, c.cmd.Process.Pid, err)
		}
	}
	return nil
}

// end asks everything but spared to end, kills what has not after limit,
// and says what it had to kill and what failed.
func (p *processes) end(limit time.Duration, spared *process) error {
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	asked := map[int]bool{}
	var errs []error
	for {
		pids, err := children()
		if err != nil {
			return err
		}
		left := 0
		for _, pid := range pids {
			if spared != nil && pid == spared.cmd.Process.Pid {
				continue
			}
			if gone, err := p.reap(pid); gone {
				errs = append(errs, err)
				continue
			}
			left++
			// A child that nobody has waited for keeps its pid.
			if !asked[pid] {
				asked[pid] = true
				signalTo(pid, syscall.SIGTERM)
			}
			if time.Now().After(deadline) {
				errs = append(errs, fmt.Errorf("process %d did not end within %v of SIGTERM and was killed", pid, limit))
				deadline = deadline.Add(limit)
				signalTo(pid, syscall.SIGKILL)
			}
		}
		if left == 0 {
			return errors.Join(errs...)
		}
		<-tick.C
	}
}

// reap waits for an adopted child that has ended. Those that were started
// here are waited for where they were started.
func (p *processes) reap(pid int) (gone bool, err error) {
	for _, c := range p.all {
		if ended, _ := c.ended(); !ended && c.cmd.Process.Pid == pid {
			return false, nil
		}
	}
	return reap(pid)
}

// command runs a program to its end, hands its lines on standard output to
// each as they come, and returns what it says on standard error.
func (p *processes) command(ctx context.Context, each func(line string), argv ...string) (stderr string, err error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = p.environment()
	isolate(cmd)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	var said bytes.Buffer
	cmd.Stderr = &said
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		each(lines.Text())
	}
	err = errors.Join(lines.Err(), cmd.Wait())
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return strings.TrimSpace(said.String()), err
}

// environment is this process's without the variables that would set
// agentd's flags, and with the directory for temporary files.
func (p *processes) environment() []string {
	env := []string{"TMPDIR=" + p.temp}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AGENTD_") && !strings.HasPrefix(v, "TMPDIR=") {
			env = append(env, v)
		}
	}
	return env
}

// lastLines is the end of a log.
func lastLines(path string, n int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(len(lines)-n, 0):], "\n")
}
