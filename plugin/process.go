package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// killTimeout bounds the wait for a process that was killed: one in an
// uninterruptible system call, as on a dead network file system, may not end.
const killTimeout = 5 * time.Second

// roomKey is the environment variable that marks a plugin and all that it
// starts: those that leave its process group are found by it.
const roomKey = "PERENNIAL_PLUGIN_ROOM"

// inherited are the host's environment variables that a plugin may see. Those
// that tell a process of inherited sockets or of the service manager must not
// be among them: the plugin would act on them as if it were the host.
var inherited = []string{"PATH", "HOME", "TZ", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT"} //nolint:gochecknoglobals // a constant list

// processConfig says what is to run. The process takes over exe and out.
type processConfig struct {
	exe    *os.File // whose content was checked; it, not its path, is executed
	name   string   // shown as argv[0]
	dir    string   // the room, its working directory
	env    []string // besides what is inherited
	limits Limits
	groups *cgroups // nil where there are none
	out    *output
	log    *slog.Logger
}

// process is one operating-system process of a plugin, in a process group of
// its own: started by this host, or adopted from an earlier one. It implements
// go-plugin's runner.Runner, whose own runner shares the host's standard input,
// does not see a death while a grandchild holds a pipe, and kills by a pid that
// may have been reused.
type process struct {
	cfg    processConfig
	exited chan struct{} // closed once the process has ended, and been reaped if it is a child

	mu       sync.Mutex
	cmd      *exec.Cmd // nil unless it is a child
	handle   *handle   // nil where there are none
	leader   int       // process id, 0 before Start
	begun    string    // what tells it from a later process of that id, "" if unknown
	group    *group    // nil where there are none
	held     holdings
	exceeded string // which limits it broke, for people
	killed   bool
	slain    bool // it lived when it was killed
	reaped   bool // the id is no longer its own
	detached bool
	err      error
}

// newProcess prepares a process. It must be started, or killed.
func newProcess(cfg processConfig) *process {
	env := []string{roomKey + "=" + cfg.dir}
	for _, key := range inherited {
		if v, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+v)
		}
	}
	cfg.env = append(env, cfg.env...)
	return &process{cfg: cfg, exited: make(chan struct{})}
}

// adoptProcess takes charge of a running process that is not a child of this
// one, if pid still is what begun says. It takes over cfg.out if it succeeds;
// cfg.exe and cfg.env have no meaning.
func adoptProcess(pid int, begun string, cfg processConfig) (*process, error) {
	h, err := openHandle(pid)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	// The handle is opened first: what it holds is what is identified.
	now, err := identify(pid)
	if err == nil && now != begun {
		err = fmt.Errorf("want the process begun at %s, found one begun at %s", begun, now)
	}
	if err != nil {
		h.close()
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	p := &process{
		cfg: cfg, exited: make(chan struct{}),
		handle: h, leader: pid, begun: begun, group: cfg.groups.find(pid, cfg.dir, cfg.limits),
	}
	p.held = p.group.holds(cfg.limits)
	cfg.limits.hold(pid, &p.held)
	go p.wait()
	return p, nil
}

// Start begins the process.
func (p *process) Start(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.killed {
		return context.Canceled
	}
	defer func() { _ = p.cfg.exe.Close() }()
	if p.cfg.groups != nil {
		var err error
		if p.group, err = p.cfg.groups.open(p.cfg.dir, p.cfg.limits, &p.held); err != nil {
			p.cfg.log.Warn("no cgroup for the plugin", "error", err)
		}
	}
	if err := p.exec(ctx); err != nil {
		p.killed = true
		p.cfg.out.finish()
		p.group.remove(p.cfg.log)
		return fmt.Errorf("%s cannot be executed: %w; is it built for this platform?", p.cfg.exe.Name(), err)
	}
	p.cfg.out.closeChild()
	p.leader = p.cmd.Process.Pid
	// Without a handle or an identity it runs, but no other host can adopt it.
	p.handle, _ = openHandle(p.leader)
	p.begun, _ = identify(p.leader)
	p.cfg.limits.hold(p.leader, &p.held)
	if !p.held.all() {
		p.cfg.log.Warn("not all limits of the plugin can be held", "reason", p.held.String())
	}
	go p.wait()
	return nil
}

// exec starts the command, again for as long as another thread's fork holds a
// writable descriptor of the file just written (golang/go#22315).
func (p *process) exec(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 200 {
		cmd, err := p.begin()
		if !textBusy(err) {
			p.cmd = cmd
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.New("text file busy for a second")
}

// begin starts the command once, in its group if that can be.
func (p *process) begin() (*exec.Cmd, error) {
	cmd, err := p.beginIn(p.group)
	if err == nil || p.group == nil || textBusy(err) {
		return cmd, err
	}
	// Old kernels, and filters of system calls, know no start in a group.
	cmd, err = p.beginIn(nil)
	if err != nil {
		return nil, err
	}
	if err := p.group.admit(cmd.Process.Pid); err != nil {
		p.cfg.log.Warn("the plugin is not in its cgroup", "error", err)
		p.group.remove(p.cfg.log)
		p.group, p.held = nil, nil
	}
	return cmd, nil
}

func (p *process) beginIn(g *group) (*exec.Cmd, error) {
	cmd := &exec.Cmd{Args: []string{p.cfg.name}, Dir: p.cfg.dir, Env: p.cfg.env}
	cmd.Stdout, cmd.Stderr = p.cfg.out.child[0], p.cfg.out.child[1]
	isolate(cmd)
	located, err := locate(cmd, p.cfg.exe)
	if err != nil {
		return nil, err
	}
	defer located()
	entered, err := g.enter(cmd.SysProcAttr)
	if err != nil {
		return nil, err
	}
	defer entered()
	return cmd, cmd.Start()
}

// wait reaps the process and takes everything that it started with it.
func (p *process) wait() {
	err := p.handle.await()
	switch {
	case err != nil && p.cmd == nil:
		return // detached; its parent sees to it
	case err != nil:
		err = p.cmd.Wait() // no handle here
		p.mu.Lock()
	default:
		p.mu.Lock()
		if !p.detached {
			// A child is still a zombie: its id and its group's cannot have
			// been reused.
			p.signal(syscall.SIGKILL)
		}
		err = errors.New("how is not known, it was started by an earlier host")
		if p.cmd != nil {
			err = p.cmd.Wait()
		}
	}
	p.err, p.reaped = err, true
	detached := p.detached
	p.mu.Unlock()
	p.handle.close()
	if !detached {
		p.clear()
		p.cfg.out.finish()
	}
	close(p.exited)
}

// clear ends what the process has left behind.
func (p *process) clear() {
	if p.group.kill() != nil {
		endStrays(p.cfg.dir)
	}
	p.mu.Lock()
	p.exceeded = p.group.exceeded()
	p.mu.Unlock()
	p.group.remove(p.cfg.log)
}

// signal sends to the process and its group; p.mu is held. Before Linux 6.9 it
// reaches an adopted process alone; what it leaves is found by its mark.
func (p *process) signal(sig syscall.Signal) {
	if p.leader == 0 || p.reaped {
		return
	}
	if p.handle.signalGroup(sig) == nil {
		return
	}
	if p.cmd != nil {
		signalGroup(p.cmd.Process, sig) // not reaped, so the id is its own
		return
	}
	_ = p.handle.signal(sig)
}

// kill ends the process, its group and what has left the group at once, also
// when they are stopped. It may come before Start, which then fails.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.detached {
		return
	}
	if p.leader == 0 && !p.killed {
		_ = p.cfg.exe.Close()
		p.cfg.out.finish()
	}
	p.killed = true
	if p.leader == 0 || p.reaped {
		return
	}
	p.slain = p.slain || !p.handle.gone()
	p.signal(syscall.SIGKILL)
	_ = p.group.kill()
}

// byItself reports whether the process ended for other reasons than kill; only
// after exited is closed.
func (p *process) byItself() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.slain || p.exceeded != "" {
		return true
	}
	if p.cmd == nil {
		return false
	}
	// Its output ends a moment before it does: it may have been killed then.
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signal() != syscall.SIGKILL
}

// terminate asks the process and its group to end.
func (p *process) terminate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leader != 0 && !p.detached {
		p.signal(syscall.SIGTERM)
		p.signal(resume) // a stopped one would not see it
	}
}

// end terminates the process and, should it still live when ctx ends, kills it.
// It returns once the process has been reaped; an error means that it does not
// die.
func (p *process) end(ctx context.Context) error {
	if p.pid() == 0 {
		p.kill()
		return nil
	}
	p.terminate()
	select {
	case <-p.exited:
		return nil
	case <-ctx.Done():
	}
	p.kill()
	late := time.NewTimer(killTimeout)
	defer late.Stop()
	select {
	case <-p.exited:
		return nil
	case <-late.C:
		return fmt.Errorf("process %d was killed %s ago and has not ended: it may hang in a system call, see /proc/%d/stack", p.pid(), killTimeout, p.pid())
	}
}

// detach leaves the process to another host. A child is still reaped as long
// as this process lives.
func (p *process) detach() {
	p.mu.Lock()
	p.detached = true
	child := p.cmd != nil
	p.mu.Unlock()
	p.cfg.out.release()
	if !child {
		p.handle.close()
	}
}

// usage measures the process while its id is certain to be its own.
func (p *process) usage() Usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leader == 0 || p.reaped {
		return Usage{}
	}
	u := measure(p.leader)
	if p.cmd == nil && p.handle.gone() {
		return Usage{}
	}
	return u
}

func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leader
}

// identity tells the process from a later one with its id, for adoptProcess;
// "" if it has none.
func (p *process) identity() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.begun
}

// outcome says how it ended; only after exited is closed.
func (p *process) outcome() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	how := "exit status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	return how + p.exceeded
}

// limits says what enforces which of the limits; "" without any.
func (p *process) limits() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held.String()
}
