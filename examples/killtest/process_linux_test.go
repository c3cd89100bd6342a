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
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if p, ok := look(pid); ok {
				list = append(list, p)
			}
		}
	}
	return list
}

func look(pid int) (p process, ok bool) {
	at := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(at, "stat"))
	if err != nil {
		return p, false
	}
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[end+1:]))
	if open < 0 || len(fields) < 2 {
		return p, false
	}
	p = process{pid: pid, zombie: fields[0] == "Z", name: string(stat[open+1 : end])}
	p.parent, _ = strconv.Atoi(fields[1])
	args, _ := os.ReadFile(filepath.Join(at, "cmdline"))
	env, _ := os.ReadFile(filepath.Join(at, "environ"))
	p.args, p.env = string(args), string(env)
	p.dir, _ = os.Readlink(filepath.Join(at, "cwd"))
	p.image, _ = os.Readlink(filepath.Join(at, "exe"))
	return p, true
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
	now, ok := look(p.pid)
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
	for wait(ctx, 20*time.Millisecond) {
		n.mu.Lock()
		for _, p := range processes() {
			if p.zombie && p.parent == os.Getpid() && !n.own[p.pid] && !strings.Contains(p.name, "etcd") {
				_, _ = unix.Wait4(p.pid, nil, unix.WNOHANG, nil)
			}
		}
		n.mu.Unlock()
	}
}
