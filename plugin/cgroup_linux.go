package plugin

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// hostGroup is the group that a host moves itself to: one that gives
	// controllers to its children must not have processes of its own.
	hostGroup = "perennial-host"
	// pluginGroup begins the name of a plugin's group.
	pluginGroup = "perennial-plugin-"
	// staleGroup is the age at which an empty group cannot be one that is about
	// to be used.
	staleGroup = time.Hour
	// emptyTimeout bounds the wait for the killed processes of a group.
	emptyTimeout = 2 * time.Second
	// cpuPeriod is that of cpu.max, in microseconds.
	cpuPeriod = 100_000
)

// cgroups makes a control group (version 2) for each plugin process, below the
// group of the host if that was delegated to it. A nil cgroups makes none.
type cgroups struct {
	home string // the directory of the delegated group
	tag  string // tells the groups of this state directory from others'
	log  *slog.Logger

	mu sync.Mutex // one changes the controllers at a time
}

// group is that of one process. A nil group holds nothing.
type group struct {
	dir    string
	limits Limits
}

// path is where the group of a room is.
func (c *cgroups) path(room string) string {
	return filepath.Join(c.home, pluginGroup+c.tag+"-"+filepath.Base(room))
}

// open makes the group of a room, and appends to held what it enforces.
func (c *cgroups) open(room string, l Limits, held *holdings) (*group, error) {
	g := &group{dir: c.path(room), limits: l}
	if err := os.Mkdir(g.dir, 0o755); err != nil { //nolint:gosec // as all in this file system
		return nil, err
	}
	if l.MemoryBytes != 0 {
		held.add("memory", byCgroup, c.limit(g, "memory", "memory.max", strconv.FormatInt(l.MemoryBytes, 10)))
		// What does not fit is not to go to swap instead, and half a plugin is
		// not to go on.
		_ = g.write("memory.swap.max", "0")
		_ = g.write("memory.oom.group", "1")
	}
	if l.CPU != 0 {
		quota := max(int64(l.CPU*cpuPeriod), 1000) // the least that the kernel takes
		held.add("cpu", byCgroup, c.limit(g, "cpu", "cpu.max", fmt.Sprintf("%d %d", quota, cpuPeriod)))
	}
	if l.Processes != 0 {
		held.add("processes", byCgroup, c.limit(g, "pids", "pids.max", strconv.Itoa(l.Processes)))
	}
	return g, nil
}

func (c *cgroups) limit(g *group, controller, file, value string) error {
	if err := c.enable(controller); err != nil {
		return err
	}
	return g.write(file, value)
}

// enable has the children of home controlled.
func (c *cgroups) enable(controller string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	offered, err := os.ReadFile(filepath.Join(c.home, "cgroup.controllers"))
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Fields(string(offered)), controller) {
		return fmt.Errorf("cgroup %s has no %s controller", c.home, controller)
	}
	control := filepath.Join(c.home, "cgroup.subtree_control")
	enabled, err := os.ReadFile(control)
	if err != nil || slices.Contains(strings.Fields(string(enabled)), controller) {
		return err
	}
	// The kernel refuses memory while there are processes in home, and takes
	// cpu and pids, whereupon no process can be started in a group below. Only
	// the root, which has no type, may have both.
	if _, err := os.Stat(filepath.Join(c.home, "cgroup.type")); err == nil {
		if err := c.vacate(); err != nil {
			return err
		}
	}
	return writeControl(control, "+"+controller)
}

// vacate moves the processes in home, this one among them, to a group below.
func (c *cgroups) vacate() error {
	if pids, err := processes(c.home); err != nil || len(pids) == 0 {
		return err
	}
	to := filepath.Join(c.home, hostGroup)
	if err := os.Mkdir(to, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // as all in this file system
		return err
	}
	c.log.Info("moving the processes of this host's cgroup to one below it, so that plugins can be limited", "path", to)
	for range 10 { // what forks meanwhile may be missed
		pids, err := processes(c.home)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			err := writeControl(filepath.Join(to, "cgroup.procs"), strconv.Itoa(pid))
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return fmt.Errorf("cgroup %s does not become empty", c.home)
}

func processes(dir string) ([]int, error) {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var pids []int
	for field := range strings.FieldsSeq(string(data)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// find returns the group of a process in room that another host has started,
// nil if it is in none.
func (c *cgroups) find(pid int, room string, l Limits) *group {
	if c == nil {
		return nil
	}
	path, err := cgroupOf(strconv.Itoa(pid))
	if err != nil || filepath.Base(path) != filepath.Base(c.path(room)) {
		return nil
	}
	g := &group{dir: c.path(room), limits: l}
	if pids, err := processes(g.dir); err != nil || !slices.Contains(pids, pid) {
		return nil // of another home
	}
	return g
}

// clear ends the group of a room whose host has gone.
func (c *cgroups) clear(room string) {
	if c == nil {
		return
	}
	g := &group{dir: c.path(room)}
	_ = g.kill()
	g.remove(c.log)
}

// sweep removes the empty groups that hosts that were killed have left: those
// of this state directory, of which nobody else may be starting plugins, and
// those of others, which may be gone for good, once they are old.
func (c *cgroups) sweep() {
	if c == nil {
		return
	}
	entries, err := os.ReadDir(c.home)
	if err != nil {
		return
	}
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil || !strings.HasPrefix(e.Name(), pluginGroup) {
			continue
		}
		if strings.HasPrefix(e.Name(), pluginGroup+c.tag+"-") || time.Since(fi.ModTime()) > staleGroup {
			_ = removeGroups(filepath.Join(c.home, e.Name())) // fails if it is not empty
		}
	}
}

// enter has cmd start inside the group. done must be called afterwards.
func (g *group) enter(cmd *syscall.SysProcAttr) (done func(), err error) {
	if g == nil {
		return func() {}, nil
	}
	dir, err := os.Open(g.dir)
	if err != nil {
		return nil, err
	}
	cmd.UseCgroupFD, cmd.CgroupFD = true, int(dir.Fd())
	return func() { _ = dir.Close() }, nil
}

// admit takes in a process that was started outside.
func (g *group) admit(pid int) error { return g.write("cgroup.procs", strconv.Itoa(pid)) }

// kill ends every process in the group and below at once, also one that
// forks as fast as it can. It fails before Linux 5.14.
func (g *group) kill() error {
	if g == nil {
		return fs.ErrNotExist
	}
	return g.write("cgroup.kill", "1")
}

// remove deletes the group, with those that the plugin made in it, once the
// processes in it, which were killed, are gone.
func (g *group) remove(log *slog.Logger) {
	if g == nil {
		return
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); ; <-tick.C {
		err := removeGroups(g.dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return
		}
		if time.Since(begin) > emptyTimeout {
			log.Warn("a plugin's cgroup could not be removed", "path", g.dir, "error", err)
			return
		}
	}
}

func removeGroups(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeGroups(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return unix.Rmdir(dir)
}

// exceeded tells which limits the kernel has enforced against the processes.
func (g *group) exceeded() string {
	if g == nil {
		return ""
	}
	said := ""
	if g.count("memory.events", "oom_kill") > 0 {
		said += fmt.Sprintf("; it exceeded its memory limit of %s", formatSize(g.limits.MemoryBytes))
	}
	if g.count("pids.events", "max") > 0 {
		said += fmt.Sprintf("; it was at its limit of %d processes", g.limits.Processes)
	}
	return said
}

// holds tells which limits the group enforces.
func (g *group) holds(l Limits) (held holdings) {
	if g == nil {
		return nil
	}
	for _, x := range []struct {
		limit, file string
		asked       bool
	}{
		{"memory", "memory.max", l.MemoryBytes != 0},
		{"cpu", "cpu.max", l.CPU != 0},
		{"processes", "pids.max", l.Processes != 0},
	} {
		value, err := os.ReadFile(filepath.Join(g.dir, x.file))
		if x.asked && err == nil && !strings.HasPrefix(string(value), "max") {
			held.add(x.limit, byCgroup, nil)
		}
	}
	return held
}

// count returns one counter of the group, 0 if there is none.
func (g *group) count(file, key string) int64 {
	data, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, key+" "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			return n
		}
	}
	return 0
}

func (g *group) write(file, value string) error {
	return writeControl(filepath.Join(g.dir, file), value)
}

// writeControl writes to a file that must be there already.
func writeControl(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
