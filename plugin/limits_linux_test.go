package plugin

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perennial-go/perennial/internal/waittest"
)

// await begins a script that goes on once its room has a file go: rlimits
// reach a process a moment after its start.
const await = "echo started\nuntil [ -e go ]; do sleep 0.01; done\n"

func (b *bench) letGo(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(b.room, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLimitsWithoutCgroupsHoldWhatRlimitsCanAndSayWhatTheyCannot(t *testing.T) {
	b := newBench(t)
	p := b.start(t, script(t, await+"ulimit -Hn\nulimit -Hd\n"+
		"dd if=/dev/zero of=/dev/null bs=16M count=1 2>/dev/null && echo fits\n"+
		"dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null || echo refused\n"),
		Limits{MemoryBytes: 32 << 20, CPU: 0.5, Processes: 10, Files: 77})
	greet(t, p)
	b.letGo(t)
	<-p.exited
	<-p.cfg.out.done
	if got, want := b.logged(t), []string{"77", fmt.Sprint(32 << 10), "fits", "refused"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	want := "files by rlimit, memory by rlimit, cpu not held (an rlimit cannot: it bounds time in all, not a share), " +
		"processes not held (an rlimit cannot: it counts all processes of the user)"
	if got := p.limits(); got != want {
		t.Errorf("limits: %s\nwant:   %s", got, want)
	}
}

// A Go program raises the limit of its files as it starts, and root may raise
// it beyond what the host has set meanwhile.
func TestLimitsAreSetAgainAtTheHandshake(t *testing.T) {
	b := newBench(t)
	p := b.start(t, script(t, "echo started\nsleep 600\n"), Limits{})
	greet(t, p)
	p.cfg.limits.Files = 77 // none has been set so far: as if it had been raised
	if _, _, err := p.PluginToHost("unix", filepath.Join(b.room, "socket")); err != nil {
		t.Fatal(err)
	}
	var now unix.Rlimit
	if err := unix.Prlimit(p.pid(), unix.RLIMIT_NOFILE, nil, &now); err != nil || now.Cur != 77 || now.Max != 77 {
		t.Errorf("found %+v, %v", now, err)
	}
}

func TestPluginWithoutLimitsHasNone(t *testing.T) {
	b := newBench(t)
	p := b.start(t, script(t, "echo started\n"), Limits{})
	if got := p.limits(); got != "" {
		t.Errorf("found %q", got)
	}
}

// controlled skips the test unless the unified hierarchy has the controller.
func (b *bench) controlled(t *testing.T, controller string) *bench {
	t.Helper()
	b.inGroups(t)
	if err := b.groups.enable(controller); err != nil {
		t.Skipf("this machine cannot limit by cgroup: %v", err)
	}
	return b
}

func TestForkBombStaysWithinItsLimitOfProcesses(t *testing.T) {
	b := newBench(t).controlled(t, "pids")
	p := b.start(t, script(t, "echo started\nfor i in 1 2 3 4 5 6 7 8 9; do sleep 600 & done\nwait\n"), Limits{Processes: 5})
	greet(t, p)
	waittest.Until(t, "the limit has been reached", func() bool { return p.group.count("pids.events", "max") > 0 })
	if pids, err := processes(p.group.dir); err != nil || len(pids) > 5 {
		t.Errorf("%d processes, %v", len(pids), err)
	}
	if got := p.limits(); got != "processes by cgroup" {
		t.Errorf("limits: %s", got)
	}
	p.kill()
	<-p.exited
	if got := p.outcome(); !strings.Contains(got, "limit of 5 processes") {
		t.Errorf("the reason is %q", got)
	}
}

func TestPluginGetsNoMoreOfTheProcessorThanItsLimit(t *testing.T) {
	b := newBench(t).controlled(t, "cpu")
	p := b.start(t, script(t, "echo started\nwhile :; do :; done\n"), Limits{CPU: 0.1})
	greet(t, p)
	waittest.Until(t, "it is held back", func() bool { return p.group.count("cpu.stat", "nr_throttled") > 3 })
	periods, used := p.group.count("cpu.stat", "nr_periods"), p.group.count("cpu.stat", "usage_usec")
	if limit := (periods + 2) * cpuPeriod / 10 * 3 / 2; used > limit {
		t.Errorf("it used %d µs in %d periods, want at most %d", used, periods, limit)
	}
	if got := p.limits(); got != "cpu by cgroup" {
		t.Errorf("limits: %s", got)
	}
}

func TestDeathByTheMemoryLimitIsToldAsSuch(t *testing.T) {
	b := newBench(t).controlled(t, "memory")
	p := b.start(t, script(t, "echo started\nsleep 600 &\ndd if=/dev/zero of=/dev/null bs=64M count=1\nwait\n"), Limits{MemoryBytes: 32 << 20})
	greet(t, p)
	<-p.exited
	if got := p.outcome(); !strings.Contains(got, "exceeded its memory limit of 32MiB") {
		t.Errorf("the reason is %q", got)
	}
	if got := p.limits(); got != "memory by cgroup" {
		t.Errorf("limits: %s", got)
	}
}

// What a kernel does not offer is said, with the reason.
func TestControllerThatIsNotThereIsNamed(t *testing.T) {
	b := newBench(t).inGroups(t)
	err := b.groups.enable("pids")
	if err == nil {
		t.Skip("this machine has the controller")
	}
	p := b.start(t, script(t, "echo started\nsleep 600\n"), Limits{Processes: 5})
	greet(t, p)
	if got := p.limits(); !strings.Contains(got, "has no pids controller; an rlimit cannot") {
		t.Errorf("limits: %s", got)
	}
	if pids, err := processes(p.group.dir); err != nil || len(pids) == 0 {
		t.Errorf("it is not in its group all the same: %v, %v", pids, err)
	}
}

// testGroup makes a group that stands for the one delegated to a host.
func testGroup(t *testing.T, name string) string {
	t.Helper()
	b := newBench(t).inGroups(t)
	dir := filepath.Join(b.groups.home, "perennial-test-"+b.groups.tag+"-"+name)
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // as all in this file system
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g := &group{dir: dir}
		_ = g.kill()
		g.remove(slog.New(slog.DiscardHandler))
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is left", dir)
		}
	})
	return dir
}

// sleeper starts a process in a group.
func sleeper(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	entered, err := (&group{dir: dir}).enter(cmd.SysProcAttr)
	if err != nil {
		t.Fatal(err)
	}
	defer entered()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// A group with processes of its own cannot give controllers to those below:
// the host moves to one below, and its successors find themselves there.
func TestHostMakesRoomInItsGroup(t *testing.T) {
	top := newBench(t).inGroups(t).groups
	offered, err := os.ReadFile(filepath.Join(top.home, "cgroup.controllers"))
	if err != nil {
		t.Fatal(err)
	}
	controllers := strings.Fields(string(offered))
	if len(controllers) == 0 {
		t.Skip("the unified hierarchy of this machine has no controller at all")
	}
	for _, controller := range controllers {
		t.Run(controller, func(t *testing.T) { makeRoom(t, top, controller) })
	}
}

func makeRoom(t *testing.T, top *cgroups, controller string) {
	t.Helper()
	if err := top.enable(controller); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // it fails while another test uses it
		_ = writeControl(filepath.Join(top.home, "cgroup.subtree_control"), "-"+controller)
	})
	home := testGroup(t, "home")
	one, two := sleeper(t, home), sleeper(t, home)
	c := &cgroups{home: home, tag: "x", log: slog.New(slog.DiscardHandler)}
	for range 2 { // the second time there is nothing to do
		if err := c.enable(controller); err != nil {
			t.Fatal(err)
		}
	}
	for _, cmd := range []*exec.Cmd{one, two} {
		path, err := cgroupOf(fmt.Sprint(cmd.Process.Pid))
		if err != nil || filepath.Base(path) != hostGroup {
			t.Errorf("process %d is in %s, %v", cmd.Process.Pid, path, err)
		}
	}
	// Now a plugin's group is controlled.
	var held holdings
	g, err := c.open("/anywhere/probe", Limits{}, &held)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(g.dir, "cgroup.controllers")); err != nil || strings.TrimSpace(string(got)) != controller {
		t.Errorf("the group of a plugin has the controllers %q, %v", got, err)
	}
	plugin := sleeper(t, g.dir)
	if err := g.kill(); err != nil {
		t.Fatal(err)
	}
	_ = plugin.Wait()
	g.remove(c.log)
}

func TestOnlyADelegatedGroupIsDivided(t *testing.T) {
	home := testGroup(t, "unit")
	inner := filepath.Join(home, "inner")
	host := filepath.Join(home, hostGroup)
	for _, dir := range []string{inner, host} {
		if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // as all in this file system
			t.Fatal(err)
		}
	}
	mount := filepath.Dir(home)
	want := func(own, home string) {
		t.Helper()
		got, err := delegated(mount, own)
		if got != home || (err == nil) != (home != "") {
			t.Errorf("%s: found %q, %v, want %q", own, got, err, home)
		}
		if err != nil && !strings.Contains(err.Error(), "Delegate=yes") {
			t.Errorf("the error does not say what to do: %v", err)
		}
	}
	want(mount, mount)
	want(home, "")
	want(inner, "")
	want(host, home) // a successor finds itself where its predecessor went
	if err := unix.Setxattr(home, "user.delegate", []byte("1"), 0); err != nil {
		t.Skipf("no extended attributes on cgroups: %v", err)
	}
	want(home, home)
	want(inner, home) // DelegateSubgroup
}

// A host that was killed leaves groups; those that are empty and its own go.
func TestGroupsThatAKilledHostLeftAreRemoved(t *testing.T) {
	home := testGroup(t, "home")
	c := &cgroups{home: home, tag: "mine", log: slog.New(slog.DiscardHandler)}
	foreign := &cgroups{home: home, tag: "other", log: c.log}
	for _, dir := range []string{c.path("empty"), filepath.Join(c.path("empty"), "below"), c.path("lives"), foreign.path("empty"), foreign.path("old")} {
		if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // as all in this file system
			t.Fatal(err)
		}
	}
	stray := sleeper(t, c.path("lives"))
	old := time.Now().Add(-2 * staleGroup)
	if err := os.Chtimes(foreign.path("old"), old, old); err != nil {
		t.Fatal(err)
	}
	c.sweep()
	for dir, want := range map[string]bool{c.path("empty"): false, c.path("lives"): true, foreign.path("empty"): true, foreign.path("old"): false} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s: there: %t, want %t", dir, err == nil, want)
		}
	}
	// The plugin is given up: its room is cleared, and what lives in its group.
	c.clear("/anywhere/lives")
	if err := stray.Wait(); err == nil || stray.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the stray process ended with %v", err)
	}
	if _, err := os.Stat(c.path("lives")); err == nil {
		t.Error("the group is left")
	}
}

// An adopted process is still bounded by its group, and ended with it.
func TestGroupOfAnAdoptedProcessIsFound(t *testing.T) {
	b := newBench(t).inGroups(t)
	first := b.start(t, script(t, fmt.Sprintf(strayScript, "env -i PATH=\"$PATH\" setsid")), Limits{})
	greet(t, first)
	first.detach()
	out, err := openOutput(b.room, b.logs.file("probe"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p, err := adoptProcess(first.pid(), first.identity(), processConfig{dir: b.room, out: out, groups: b.groups, log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	p.kill()
	<-p.exited
	<-first.exited
	<-out.done
	awaitDeath(t, strayPID(t, b))
	if _, err := os.Stat(first.group.dir); err == nil {
		t.Error("the group is left")
	}
}

// A plugin whose group is gone, or whose system cannot start in one, runs.
func TestPluginRunsWithoutItsGroup(t *testing.T) {
	b := newBench(t).inGroups(t)
	p := b.prepare(t, script(t, "echo started\n"), Limits{})
	p.group = &group{dir: filepath.Join(b.groups.home, "perennial-none")}
	cmd, err := p.begin()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || p.group != nil {
		t.Errorf("%v, group %v", err, p.group)
	}
	p.cfg.out.closeChild()
	if got := greet(t, p); got != "started" {
		t.Errorf("found %q", got)
	}
}

// Where a process cannot be started in a group it is moved there.
func TestProcessStartedOutsideIsAdmittedToItsGroup(t *testing.T) {
	dir := testGroup(t, "home")
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	g := &group{dir: dir}
	if err := g.admit(cmd.Process.Pid); err != nil {
		t.Error(err)
	}
	if err := g.kill(); err != nil {
		t.Error(err)
	}
}
