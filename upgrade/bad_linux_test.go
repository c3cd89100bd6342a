package upgrade

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/release"
)

// bad is a release that fails, by its fault or as a file of its own.
type bad struct {
	name   string
	file   func(testing.TB) string // nil: the test agent with the fault called name
	reason string
	class  Class
	log    string
	// A request that a successor has accepted is lost with its death;
	// nothing is lost where it never accepted or can be told to drain.
	losesItsOwn bool
	// last is true where the incumbent needs a restart for the next upgrade.
	last bool
}

var badReleases = []bad{
	{name: "exit", reason: "did not stay alive: exit status 1", log: "fault: exits at once"},
	{name: "exits with 0", reason: "ended by itself with exit status 0; a release must stay in the foreground"},
	{name: "silent", reason: "exit status 7"},
	{name: "panic", reason: "exit status 2: panic: fault: panics at start", log: "fault: panics at start"},
	{name: "segfault", file: cProgram(`#include <stdio.h>
		int main(void) { puts("about to fall"); fflush(stdout); return *(volatile int *)0; }`),
		reason: "signal: segmentation fault", log: "about to fall"},
	{name: "killed", file: cProgram(`#include <signal.h>
		int main(void) { raise(SIGKILL); }`), reason: "signal: killed (by the kernel, out of memory, or by somebody)", class: BadEnvironment},
	{name: "other architecture", file: patched(func(exe []byte) { binary.LittleEndian.PutUint16(exe[18:], uint16(elf.EM_IA_64)) }),
		reason: "built for another architecture, EM_IA_64; this host is linux/"},
	{name: "no program", file: written("release notes\n"), reason: "executable is none for this platform: can't start process"},
	{name: "hang", reason: "did not serve within", log: "test agent 1.1.0"},
	{name: "stopped at once", reason: "did not serve within 8s: its process is stopped by a signal"},
	{name: "mute", reason: "did not serve within", losesItsOwn: true},
	{name: "unhealthy", reason: "unhealthy 3 times in a row: disk: fault"},
	{name: "dies", reason: "did not stay alive: exit status 3", log: "last words on stdout", losesItsOwn: true},
	{name: "deadlock", reason: "no health report", losesItsOwn: true},
	{name: "stopped", reason: "no health report for 3s: its process is stopped by a signal", losesItsOwn: true},
	{name: "lies", reason: "its executable says 9.9.9"},
	{name: "background", reason: "a release must stay in the foreground", log: "thief", losesItsOwn: true},
	{name: "raw garbage", reason: "the peer does not speak this protocol"},
	{name: "raw not JSON", reason: "handover frame is not JSON"},
	{name: "raw newer protocol", reason: "handover protocol 2, this agent speaks 1", log: "said newer protocol"},
	{name: "raw cut", reason: "handover frame cut off"},
	{name: "raw no hello", reason: "did not say who it is before it said serving"},
	{name: "raw endless version", reason: "its executable says \uFFFD<é"},
	{name: "raw endless checks", reason: "unhealthy 3 times in a row: disk: "},
	{name: "raw frames without end", reason: "did not serve within"},
	{name: "raw closed", reason: "no health report"},
	{name: "takes over unasked", reason: "calls tableflip's Ready itself", last: true},
}

func TestBadSuccessorLeavesTheIncumbentServing(t *testing.T) {
	t.Parallel()
	for _, c := range badReleases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.class == "" {
				c.class = BadBinary
			}
			r := newRig(t, 400*time.Millisecond, nil)
			t.Cleanup(func() { r.strays(true) })
			l := startLoad(r, 4, pace)
			var pin release.Pin
			if c.file != nil {
				pin = r.publishFile("1.1.0", c.file(t))
			} else {
				b := build{Version: "1.1.0", Fault: c.name}
				if c.name == "lies" {
					b.Says = "9.9.9"
				}
				pin = r.publish(b)
			}
			r.ask(pin)
			s := r.ends("1.1.0")
			mustHaveRolledBack(t, r, c, s, pin)
			r.ask(r.publish(build{Version: "1.1.1"}))
			s = r.ends("1.1.1")
			if c.last && (s.State != Failed || !strings.Contains(s.Reason, "restart the agent") || len(r.quarantined()) != 1) {
				t.Errorf("the next upgrade: %s: %s; quarantine %+v; want a failure that blames no release", s.State, s.Reason, r.quarantined())
			}
			if !c.last && s.State != Committed {
				t.Errorf("the next upgrade: %s: %s", s.State, s.Reason)
			}
			l.end(t, c.losesItsOwn)
		})
	}
}

// mustHaveRolledBack checks all that a bad successor must leave as it was,
// and what must be told of it.
func mustHaveRolledBack(t *testing.T, r *rig, c bad, s Status, pin release.Pin) {
	t.Helper()
	if s.State != RolledBack || !strings.Contains(s.Reason, c.reason) || s.Class != c.class {
		t.Errorf("state %s, class %s, reason %q; want rolled_back, %s for %q", s.State, s.Class, s.Reason, c.class, c.reason)
	}
	if len(s.Reason) > reasonBytes || !utf8.ValidString(s.Reason) {
		t.Errorf("the reason has %d bytes", len(s.Reason))
	}
	if log := strings.Join(s.Log, "\n"); !strings.Contains(log, c.log) || len(s.Log) > logLines {
		t.Errorf("the successor's last %d lines do not hold %q:\n%s", len(s.Log), c.log, log)
	}
	if c.name == "silent" && slices.ContainsFunc(s.Log, func(line string) bool { return strings.Contains(line, "test agent") }) {
		t.Errorf("it printed nothing, its log is %q", s.Log)
	}
	if s.Running.Version != "1.0.0" || r.current() != "1.0.0" || r.serves("1.0.0").PID != r.cmd.Process.Pid {
		t.Errorf("running %s, current %s: want 1.0.0 in its old process", s.Running.Version, r.current())
	}
	if s.LastFailed == nil || s.LastFailed.Manifest != pin.Digest || s.LastFailed.Class != c.class || s.LastFailed.Reason != s.Reason {
		t.Errorf("last failed = %+v", s.LastFailed)
	}
	if left := r.strays(false); len(left) > 0 {
		t.Errorf("processes of the successor live on: %v", left)
	}
}

func (r *rig) quarantined() []Quarantined {
	r.Helper()
	report, err := Inspect(r.env.StateDir)
	if err != nil {
		r.Fatal(err)
	}
	return report.Quarantine
}

// strays returns the processes that live with the rig's environment, the
// first process excepted.
func (r *rig) strays(kill bool) []process {
	var found []process
	for _, p := range processes() {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
		if err != nil || p.dead() || p.pid == r.cmd.Process.Pid || !bytes.Contains(env, []byte(r.env.StateDir+`"`)) {
			continue
		}
		found = append(found, p)
		if kill && p.group != syscall.Getpgrp() {
			_ = syscall.Kill(-p.group, syscall.SIGKILL)
		}
	}
	return found
}

// cProgram compiles source.
func cProgram(source string, flags ...string) func(testing.TB) string {
	return func(tb testing.TB) string {
		tb.Helper()
		dir := tb.TempDir()
		compile(tb, append([]string{"-o", filepath.Join(dir, "program"), "-x", "c", "-"}, flags...), source)
		return filepath.Join(dir, "program")
	}
}

func compile(tb testing.TB, args []string, source string) {
	tb.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		tb.Skip("needs gcc:", err)
	}
	cmd := exec.Command(gcc, args...)
	cmd.Stdin = strings.NewReader(source)
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("gcc: %v\n%s", err, out)
	}
}

// withoutLibrary is a program whose library has gone.
func withoutLibrary(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	library := filepath.Join(dir, "libgone.so")
	compile(tb, []string{"-shared", "-fPIC", "-o", library, "-x", "c", "-"}, "int gone(void) { return 0; }")
	program := cProgram("int gone(void); int main(void) { return gone(); }", "-x", "none", "-L"+dir, "-lgone")(tb)
	if err := os.Remove(library); err != nil {
		tb.Fatal(err)
	}
	return program
}

// patched is a copy of the test agent with some bytes changed.
func patched(edit func([]byte)) func(testing.TB) string {
	return func(tb testing.TB) string {
		tb.Helper()
		path := makeBinary(tb, build{Version: "1.1.0"})
		exe, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		edit(exe)
		return written(string(exe))(tb)
	}
}

// written is a file with that content.
func written(content string) func(testing.TB) string {
	return func(tb testing.TB) string {
		tb.Helper()
		path := filepath.Join(tb.TempDir(), "release")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			tb.Fatal(err)
		}
		return path
	}
}

func TestWhatABadSuccessorStartedEndsWithItAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		// A child that has left the group, with another environment and no
		// parent any more, cannot be told from anybody's.
		missed string
		fault  string // of the incumbent
	}{
		{"crashed", syscall.SIGKILL, unmarked, ""},
		{"stopped", syscall.SIGSTOP, "", ""},
		{"crashed, and its orphans fall to the incumbent", syscall.SIGKILL, unmarked, "reaper"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, time.Minute, nil)
			t.Cleanup(func() { r.strays(true) })
			if c.fault != "" {
				restart(t, r, makeBinary(t, build{Version: "1.0.0", Fault: c.fault}))
			}
			client := &http.Client{Transport: &http.Transport{}}
			mine := []int{spawned(t, r, client)}
			r.ask(r.publish(build{Version: "1.1.0", Fault: "family"}))
			successor := r.serves("1.1.0").PID
			waittest.Until(t, "all children are there", func() bool { return strings.Contains(r.logged(), unmarked) })
			// The kept connection still leads to the incumbent, so this is a
			// child that it starts during the trial.
			mine = append(mine, spawned(t, r, client))
			if err := syscall.Kill(successor, c.signal); err != nil {
				t.Fatal(err)
			}
			missed := mustHaveEnded(t, r.ends("1.1.0").Log, c.missed)
			for _, pid := range mine {
				p, ok := processOf(pid)
				if !ok || p.dead() || p.parent != r.cmd.Process.Pid {
					t.Errorf("the incumbent's own child %d is gone: %+v", pid, p)
				}
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			for _, p := range processes() {
				if p.parent == r.cmd.Process.Pid && p.dead() && p.group != missed && !slices.Contains(mine, p.pid) {
					t.Errorf("the incumbent did not reap %+v", p)
				}
			}
			waittest.Until(t, "no process that hops is left", func() bool { return len(r.strays(false)) == 0 })
		})
	}
}

// mustHaveEnded looks for the children that the log names. It returns the
// pid of the one called missed, which it kills.
func mustHaveEnded(t *testing.T, log []string, missed string) (missing int) {
	t.Helper()
	children := 0
	for _, line := range log {
		var pid int
		if n, _ := fmt.Sscanf(line, "child pid %d", &pid); n == 0 {
			continue
		}
		children++
		if missed != "" && strings.HasSuffix(line, missed) {
			missing = pid
			_ = syscall.Kill(-pid, syscall.SIGKILL)
			continue
		}
		if p, ok := processOf(pid); ok && !p.dead() {
			t.Errorf("%s lives on after the rollback", line)
		}
	}
	if children != 5 {
		t.Errorf("%d children are in the log, want 5:\n%s", children, strings.Join(log, "\n"))
	}
	return missing
}

// spawned has the process at the other end of client's connection start a
// child.
func spawned(t *testing.T, r *rig, client *http.Client) int {
	t.Helper()
	res, err := client.Post(r.url("/spawn"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	pid, numErr := strconv.Atoi(string(body))
	if err != nil || numErr != nil {
		t.Fatal(err, numErr)
	}
	return pid
}

func TestSuccessorThatCommitsKeepsItsChildrenAndJoinsTheOldProcessGroup(t *testing.T) {
	t.Parallel()
	r := newRig(t, 200*time.Millisecond, nil)
	before, _ := processOf(r.cmd.Process.Pid)
	r.ask(r.publish(build{Version: "1.1.0", Fault: "family"}))
	s := r.ends("1.1.0")
	if s.State != Committed {
		t.Fatalf("%s: %s", s.State, s.Reason)
	}
	<-r.done
	w := r.serves("1.1.0")
	after, _ := processOf(w.PID)
	if after.group != before.group {
		t.Errorf("the process group was %d before the upgrade and is %d now: Ctrl-C does not reach it", before.group, after.group)
	}
	children := 0
	for _, p := range processes() {
		if p.parent == w.PID && !p.dead() {
			children++
			if p.group == p.pid {
				_ = syscall.Kill(-p.pid, syscall.SIGKILL)
			}
		}
	}
	if children < 4 {
		t.Errorf("%d children of the successor have lived on, want 4", children)
	}
	// The one that hops has its pid from a moment ago only.
	_ = syscall.Kill(-w.PID, syscall.SIGKILL)
}

func TestFloodOfLogHurtsNobody(t *testing.T) {
	r := newRig(t, time.Minute, nil)
	// The flood is copied to this process's log, as it would be later on.
	r.ask(r.publish(build{Version: "1.1.0", Fault: "flood"}))
	successor := r.serves("1.1.0").PID
	waittest.Until(t, "32 MiB of log", func() bool {
		info, err := os.Stat(r.log)
		return err == nil && info.Size() > 32<<20
	})
	if err := syscall.Kill(successor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s := r.ends("1.1.0")
	if s.State != RolledBack || len(s.Log) != logLines {
		t.Errorf("%s: %s, %d lines", s.State, s.Reason, len(s.Log))
	}
	for _, line := range s.Log {
		if len(line) > logLineBytes || !utf8.ValidString(line) || strings.ContainsRune(line, 0) {
			t.Fatalf("a line of the log is %q", line)
		}
	}
	peak, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(peak), "VmHWM:")
	var kib int
	if _, err := fmt.Sscan(after, &kib); err != nil || kib > 512<<10 { // most of it is the race detector's
		t.Errorf("the incumbent's memory peaked at %d KiB, %v", kib, err)
	}
	if info, err := os.Stat(r.log); err == nil {
		t.Logf("%d MiB of log, peak memory %d MiB", info.Size()>>20, kib>>10)
	}
	_ = os.Truncate(r.log, 0)
}

func TestLogOfASuccessorThatHangsHoldsNothingOfTheIncumbent(t *testing.T) {
	t.Parallel()
	r := newRig(t, time.Second, nil)
	r.ask(r.publish(build{Version: "1.1.0", Fault: "hang"}))
	waittest.Until(t, "the successor runs", func() bool { return len(r.strays(false)) > 0 })
	s := r.ends("1.1.0")
	for _, line := range s.Log {
		if !strings.Contains(line, "test agent 1.1.0") {
			t.Errorf("the successor's log holds %q of the incumbent", line)
		}
	}
}
