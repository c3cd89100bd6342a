package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

// pipeGrace is how long the output pipes of a dead plugin may stay open: a
// descendant that left the process group can hold them.
const pipeGrace = time.Second

// inherited are the host's environment variables that a plugin may see. Those
// that tell a process of inherited sockets or of the service manager must not
// be among them: the plugin would act on them as if it were the host.
var inherited = []string{"PATH", "HOME", "TZ", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT"} //nolint:gochecknoglobals // a constant list

// process is one operating-system process of a plugin, in a process group of
// its own. It implements go-plugin's runner.Runner, whose own runner shares
// the host's standard input, does not see a death while a grandchild holds a
// pipe, and kills by a pid that may have been reused.
type process struct {
	cmd    *exec.Cmd
	life   *os.File // write end of its standard input; closes with the host
	stdout *os.File
	stderr *os.File
	exited chan struct{} // closed once the process has been reaped

	mu      sync.Mutex
	started bool
	killed  bool
	reaped  bool
	err     error
}

// newProcess prepares path to run in dir.
func newProcess(path, dir string) (*process, error) {
	cmd := exec.Command(path)
	cmd.Dir = dir
	for _, key := range inherited {
		if v, ok := os.LookupEnv(key); ok {
			cmd.Env = append(cmd.Env, key+"="+v)
		}
	}
	isolate(cmd)
	p := &process{cmd: cmd, exited: make(chan struct{})}
	stdin, life, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdin, p.life = stdin, life
	stdout, outw, err := os.Pipe()
	if err != nil {
		p.closeAll()
		return nil, err
	}
	cmd.Stdout, p.stdout = outw, stdout
	stderr, errw, err := os.Pipe()
	if err != nil {
		p.closeAll()
		return nil, err
	}
	cmd.Stderr, p.stderr = errw, stderr
	return p, nil
}

// Start begins the process.
func (p *process) Start(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killed {
		p.closeAll()
		return context.Canceled
	}
	if err := p.exec(ctx); err != nil {
		p.closeAll()
		return fmt.Errorf("%s cannot be executed: %w; is it built for this platform?", p.cmd.Path, err)
	}
	p.closeChildEnds()
	p.started = true
	go p.wait()
	return nil
}

// exec starts the command, again for as long as another thread's fork holds a
// writable descriptor of the file just written (golang/go#22315).
func (p *process) exec(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 200 {
		err := p.cmd.Start()
		if !textBusy(err) {
			return err
		}
		retry := exec.Command(p.cmd.Path)
		retry.Dir, retry.Env, retry.SysProcAttr = p.cmd.Dir, p.cmd.Env, p.cmd.SysProcAttr
		retry.Stdin, retry.Stdout, retry.Stderr = p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr
		p.cmd = retry
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.New("text file busy for a second")
}

// wait reaps the process and takes its group with it.
func (p *process) wait() {
	pid := p.cmd.Process.Pid
	if awaitExit(pid) {
		// The pid is still a zombie and cannot be reused, so neither can the
		// group's id.
		p.mu.Lock()
		killGroup(p.cmd.Process)
		p.err = p.cmd.Wait()
		p.reaped = true
		p.mu.Unlock()
	} else {
		err := p.cmd.Wait()
		p.mu.Lock()
		p.err, p.reaped = err, true
		p.mu.Unlock()
	}
	_ = p.life.Close()
	time.AfterFunc(pipeGrace, func() {
		_ = p.stdout.Close()
		_ = p.stderr.Close()
	})
	close(p.exited)
}

// kill ends the process and its group at once, also when it is stopped. It may
// come before Start, which then fails.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	if p.started && !p.reaped {
		killGroup(p.cmd.Process)
	}
}

// usage measures the process while its id is certain to be its own.
func (p *process) usage() Usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.started || p.reaped {
		return Usage{}
	}
	return measure(p.cmd.Process.Pid)
}

func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.started {
		return 0
	}
	return p.cmd.Process.Pid
}

// outcome says how it ended; only after exited is closed.
func (p *process) outcome() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		return "exit status 0"
	}
	return p.err.Error()
}

func (p *process) closeChildEnds() {
	for _, f := range []any{p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr} {
		if f, ok := f.(*os.File); ok && f != nil {
			_ = f.Close()
		}
	}
}

func (p *process) closeAll() {
	p.closeChildEnds()
	for _, f := range []*os.File{p.life, p.stdout, p.stderr} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// What follows completes runner.Runner.

// Wait blocks until the process has been reaped.
func (p *process) Wait(context.Context) error {
	<-p.exited
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Kill ends the process group.
func (p *process) Kill(context.Context) error { p.kill(); return nil }

// Diagnose has nothing to add to what the plugin wrote to standard error.
func (p *process) Diagnose(context.Context) string { return "" }

// Stdout carries the handshake.
func (p *process) Stdout() io.ReadCloser { return p.stdout }

// Stderr carries the log.
func (p *process) Stderr() io.ReadCloser { return p.stderr }

// Name is the executable's path.
func (p *process) Name() string { return p.cmd.Path }

// ID is the process id, "" before Start.
func (p *process) ID() string {
	if pid := p.pid(); pid != 0 {
		return strconv.Itoa(pid)
	}
	return ""
}

// PluginToHost leaves addresses as they are: both sides see one file system.
func (p *process) PluginToHost(network, addr string) (string, string, error) {
	return network, addr, nil
}

// HostToPlugin is the reverse.
func (p *process) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}
