package killtest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// process is one of the system's, as it was at a moment.
type process struct {
	pid, parent int
	zombie      bool
	name        string
	args, env   string // separated by NUL
	dir, image  string // where it is, and what it executes
}

// processes lists those of the system; each may have ended since.
func processes() []process {
	var list []process
	for _, p := range states() {
		if p, ok := p.look(); ok {
			list = append(list, p)
		}
	}
	return list
}

// states lists them without what takes long to read.
func states() (list []process) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
		if err != nil || open < 0 || end < open {
			continue
		}
		p := process{pid: pid, name: string(stat[open+1 : end])}
		if fields := strings.Fields(string(stat[end+1:])); len(fields) > 1 {
			p.zombie = fields[0] == "Z"
			p.parent, _ = strconv.Atoi(fields[1])
		}
		list = append(list, p)
	}
	return list
}

// look reads what is missing; not ok says that the process has ended.
func (p process) look() (process, bool) {
	if p.zombie {
		return p, true
	}
	at := filepath.Join("/proc", strconv.Itoa(p.pid))
	args, err := os.ReadFile(filepath.Join(at, "cmdline"))
	env, _ := os.ReadFile(filepath.Join(at, "environ"))
	p.args, p.env = string(args), string(env)
	p.dir, _ = os.Readlink(filepath.Join(at, "cwd"))
	p.image, _ = os.Readlink(filepath.Join(at, "exe"))
	return p, err == nil
}

// of reports whether the process belongs to what lies below dir.
func (p process) of(dir string) bool {
	return strings.Contains(p.args, dir) || strings.Contains(p.env, dir) || strings.HasPrefix(p.dir, dir) || strings.HasPrefix(p.image, dir)
}

// signal sends sig unless the pid has become another process.
func (p process) signal(sig os.Signal) bool {
	handle, err := os.FindProcess(p.pid)
	if err != nil {
		return false
	}
	defer func() { _ = handle.Release() }()
	now, ok := process{pid: p.pid}.look()
	return ok && now.args == p.args && now.env == p.env && handle.Signal(sig) == nil
}

// nursery starts processes, and is the parent of those whose own has been
// killed: what init is elsewhere.
type nursery struct {
	mu  sync.Mutex
	own map[int]bool // started by exec.Cmd, which waits for them
}

func newNursery() (*nursery, error) {
	return &nursery{own: map[int]bool{}}, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// start starts a command; its end is that of the returned channel.
func (n *nursery) start(cmd *exec.Cmd) (<-chan error, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	n.own[cmd.Process.Pid] = true
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.own, cmd.Process.Pid)
		ended <- err
	}()
	return ended, nil
}

// output runs a command and returns what it said.
func (n *nursery) output(cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	ended, err := n.start(cmd)
	if err == nil {
		err = <-ended
	}
	return out.String(), err
}

// reap waits for adopted children until ctx ends. Theirs are the names that etcd
// has not.
func (n *nursery) reap(ctx context.Context) {
	for wait(ctx, 100*time.Millisecond) {
		n.mu.Lock()
		for _, p := range states() {
			if p.zombie && p.parent == os.Getpid() && !n.own[p.pid] && !strings.Contains(p.name, "etcd") {
				_, _ = unix.Wait4(p.pid, nil, unix.WNOHANG, nil)
			}
		}
		n.mu.Unlock()
	}
}
