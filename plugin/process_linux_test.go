package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perennial-go/perennial/internal/waittest"
)

// bench runs processes that are no plugins: what is tested here is below the
// protocol.
type bench struct {
	room   string
	logs   *logs
	groups *cgroups
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{room: t.TempDir()}
	b.logs = &logs{dir: t.TempDir(), bytes: 1 << 20, files: 3}
	return b
}

// inGroups has the processes run in cgroups, or skips the test.
func (b *bench) inGroups(t *testing.T) *bench {
	t.Helper()
	groups, err := findCgroups(b.room, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Skipf("this machine has no cgroups for it: %v", err)
	}
	t.Cleanup(groups.sweep)
	b.groups = groups
	return b
}

// script makes an executable of shell text.
func script(t *testing.T, text string) string {
	t.Helper()
	return executable(t, []byte("#!/bin/sh\n"+text))
}

// executable is written by another process: a child that this one forks
// meanwhile would hold it open for writing.
func executable(t *testing.T, data []byte) string {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	path := filepath.Join(t.TempDir(), "exe")
	if err := os.WriteFile(path, data, 0o700); err != nil { //nolint:gosec // it is to be executed
		t.Fatal(err)
	}
	return path
}

// prepare makes a process of the executable at path.
func (b *bench) prepare(t *testing.T, path string, l Limits) *process {
	t.Helper()
	exe, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	out, err := createOutput(b.room, b.logs.file("probe"), log)
	if err != nil {
		t.Fatal(err)
	}
	p := newProcess(processConfig{
		exe: exe, name: "probe", dir: b.room, limits: l, groups: b.groups, out: out, log: log,
	})
	t.Cleanup(func() {
		p.kill()
		if p.pid() != 0 {
			<-p.exited
		}
		<-out.done
	})
	return p
}

func (b *bench) start(t *testing.T, path string, l Limits) *process {
	t.Helper()
	p := b.prepare(t, path, l)
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// greet returns the first line of the standard output.
func greet(t *testing.T, p *process) string {
	t.Helper()
	data, err := io.ReadAll(p.Stdout())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(data), "\n")
}

// gone reports whether pid is no process or a zombie.
func gone(pid int) bool {
	fields, err := procStat(pid)
	return err != nil || fields[0] == "Z"
}

func awaitDeath(t *testing.T, pid int) {
	t.Helper()
	waittest.Until(t, fmt.Sprintf("process %d has ended", pid), func() bool { return gone(pid) })
}

// What was hashed is what runs, whoever replaces the file after that.
func TestFileReplacedAfterItsCheckDoesNotRun(t *testing.T) {
	env, err := os.ReadFile("/usr/bin/env")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{
		"binary": {env, roomKey + "="},
		"script": {[]byte("#!/usr/bin/env sh\necho as checked\n"), "as checked"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			path := executable(t, c.content)
			p := b.prepare(t, path, Limits{})
			if err := os.Rename(script(t, "echo replaced\n"), path); err != nil {
				t.Fatal(err)
			}
			if err := p.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := greet(t, p); !strings.HasPrefix(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
			<-p.exited
			if got := p.outcome(); got != "exit status 0" {
				t.Error(got)
			}
		})
	}
}

// The runtime moves a descriptor of its own to the number after the highest
// that it passes on. Here that is the executable's.
func TestBinaryStartsWhateverTheNumberOfItsDescriptor(t *testing.T) {
	null := func() *os.File {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	low := []*os.File{null(), null(), null(), null(), null()}
	b := newBench(t)
	p := b.prepare(t, "/usr/bin/env", Limits{})
	stderr, err := unix.FcntlInt(p.cfg.out.child[1].Fd(), unix.F_DUPFD_CLOEXEC, 100)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := unix.FcntlInt(p.cfg.exe.Fd(), unix.F_DUPFD_CLOEXEC, stderr+1)
	if err != nil {
		t.Fatal(err)
	}
	if exe != stderr+1 {
		t.Fatalf("descriptors %d and %d are not neighbours", stderr, exe)
	}
	_, _ = p.cfg.out.child[1].Close(), p.cfg.exe.Close()
	p.cfg.out.child[1], p.cfg.exe = os.NewFile(uintptr(stderr), "stderr"), os.NewFile(uintptr(exe), "env")
	for _, f := range low { // for what the start opens
		_ = f.Close()
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-p.exited
	if got := p.outcome(); got != "exit status 0" {
		t.Error(got)
	}
}

func TestExecutableThatIsNoneSaysSo(t *testing.T) {
	b := newBench(t)
	p := b.prepare(t, executable(t, []byte("plain text")), Limits{})
	if err := p.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "exec format error") {
		t.Errorf("found %v", err)
	}
	if got := greet(t, p); got != "" {
		t.Errorf("output %q", got)
	}
}

func TestProcessKilledBeforeItsStartNeverRuns(t *testing.T) {
	b := newBench(t)
	mark := filepath.Join(b.room, "ran")
	p := b.prepare(t, script(t, "touch "+mark+"\n"), Limits{})
	p.kill()
	if err := p.Start(t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("found %v", err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("it ran")
	}
}

// deaf is a process that SIGTERM does not end, and says so first.
const deaf = "trap '' TERM\necho deaf\nwhile :; do sleep 600; done\n"

// A stop is bounded for those that do not listen and those that are stopped.
func TestEndKillsWhatDoesNotObey(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		act   syscall.Signal
		quick bool // it obeys SIGTERM
	}{
		"obeys":             {text: "echo obeys\nexec sleep 600\n", quick: true},
		"ignores SIGTERM":   {text: deaf},
		"stopped":           {text: "trap 'exit 5' TERM\nsleep 600 &\necho stopped\nwait\n", act: syscall.SIGSTOP, quick: true},
		"stopped and deaf":  {text: deaf, act: syscall.SIGSTOP},
		"closed its output": {text: "echo closed\nexec sleep 600 >&- 2>&-\n", quick: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			p := b.start(t, script(t, c.text), Limits{})
			greet(t, p)
			if c.act != 0 {
				if err := syscall.Kill(p.pid(), c.act); err != nil {
					t.Fatal(err)
				}
			}
			grace := 100 * time.Millisecond
			if c.quick {
				grace = waittest.Patience
			}
			ctx, cancel := context.WithTimeout(t.Context(), grace)
			defer cancel()
			if err := p.end(ctx); err != nil {
				t.Fatal(err)
			}
			if (ctx.Err() == nil) != c.quick {
				t.Errorf("it ended, SIGTERM sufficing: %t, want %t (%s)", ctx.Err() == nil, c.quick, p.outcome())
			}
			if _, err := procStat(p.pid()); err == nil {
				t.Error("it is left as a zombie")
			}
		})
	}
}

// strayScript starts a descendant and writes its id to a file. What it is
// started with can have it leave the process group and the session.
const strayScript = `%s sh -c 'echo $$ > pid; exec sleep 600' &
until [ -s pid ]; do sleep 0.01; done
echo started
exec sleep 600
`

func strayPID(t *testing.T, b *bench) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(b.room, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestDescendantsEndWithTheirPlugin(t *testing.T) {
	for name, c := range map[string]struct {
		prefix string
		groups bool
	}{
		"found by its environment":          {"setsid", false},
		"cgroup":                            {"setsid", true},
		"cgroup, and no environment at all": {"env -i PATH=\"$PATH\" setsid", true},
		"group, and no environment at all":  {"env -i PATH=\"$PATH\"", false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if c.groups {
				b.inGroups(t)
			}
			p := b.start(t, script(t, fmt.Sprintf(strayScript, c.prefix)), Limits{})
			greet(t, p)
			stray := strayPID(t, b)
			if gone(stray) {
				t.Fatal("the descendant does not run")
			}
			// The death of the process alone is enough.
			if err := syscall.Kill(p.pid(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			<-p.exited
			awaitDeath(t, stray)
		})
	}
}

// hopping forks a successor, in a session of its own, and exits, for ever: by
// the time that one was found, it is another.
const hopping = "#!/bin/sh\nsetsid \"$0\" &\n"

func TestForkingFasterThanOneCanKillDoesNotHelp(t *testing.T) {
	b := newBench(t).inGroups(t)
	hopper := executable(t, []byte(hopping))
	p := b.start(t, script(t, "for i in 1 2 3 4; do setsid "+hopper+" & done\necho started\nwait\nexec sleep 600\n"), Limits{})
	greet(t, p)
	dir := p.group.dir
	if pids, err := processes(dir); err != nil || len(pids) < 2 {
		t.Fatalf("its cgroup has %v, %v", pids, err)
	}
	p.kill()
	<-p.exited
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cgroup is left, and what hops in it: %v", err)
	}
}

// The system may not let a process die, as in a call to a network file system
// that is gone. The old freezer does the same.
func TestStopIsBoundedWhenTheSystemLetsNoProcessDie(t *testing.T) {
	t.Parallel()
	freezer := filepath.Join("/sys/fs/cgroup/freezer", "perennial-"+filepath.Base(t.TempDir())+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(freezer, 0o755); err != nil { //nolint:gosec // as all in this file system
		t.Skipf("this machine cannot freeze a process: %v", err)
	}
	t.Cleanup(func() {
		if err := os.Remove(freezer); err != nil {
			t.Error(err)
		}
	})
	b := newBench(t)
	p := b.start(t, script(t, "echo started\nexec sleep 600\n"), Limits{})
	greet(t, p)
	set := func(file, value string) {
		if err := writeControl(filepath.Join(freezer, file), value); err != nil {
			t.Error(err)
		}
	}
	set("cgroup.procs", strconv.Itoa(p.pid()))
	set("freezer.state", "FROZEN")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := p.end(ctx)
	set("freezer.state", "THAWED")
	if err == nil || !strings.Contains(err.Error(), "has not ended") {
		t.Errorf("found %v", err)
	}
	<-p.exited
}
