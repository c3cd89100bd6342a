package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
)

// maxSupervisor is how much memory a supervisor may take: what stays of it
// on each host of a fleet is the price of a pid that never changes.
const maxSupervisor = 12 << 10 // KiB

func TestSupervisorStaysSmallKeepsItsPIDAndExecutesTheCommittedRelease(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("1.0.0", "1.1.0")
	p := s.start("--supervise", "always", "--log-level", "debug")
	pid := p.cmd.Process.Pid
	if i := s.mustInfo(); i.PID == pid {
		t.Fatalf("the first process serves itself: %+v", i)
	}
	p.isSmall("at the start")
	s.upgrade("1.1.0").ok(t)
	waittest.Nil(t, "the supervisor executes 1.1.0", func() error {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err == nil && filepath.Dir(exe) != filepath.Join(s.state, s.current()) {
			err = errors.New("it executes " + exe)
		}
		return err
	})
	p.isSmall("after an upgrade")
	if i := s.mustInfo(); i.Version != "1.1.0" || i.PID == pid {
		t.Errorf("after the upgrade %+v answers", i)
	}
	if err := sendSignal(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := waittest.Next(t, "the supervisor ends", p.done); err != nil {
		t.Errorf("SIGTERM ended the supervisor with %v, want 0", err)
	}
}

// isSmall looks at the supervisor once it is at rest, for as long as it takes
// to get there.
func (p *process) isSmall(when string) {
	p.site.t.Helper()
	rests := strings.Count(p.logged(), "the supervisor is at rest")
	// What wakes it has it rest anew.
	if err := sendSignal(p.cmd.Process.Pid, syscall.SIGWINCH); err != nil {
		p.site.t.Fatal(err)
	}
	waittest.Until(p.site.t, "the supervisor is at rest "+when, func() bool {
		return strings.Count(p.logged(), "the supervisor is at rest") > rests
	})
	waittest.Nil(p.site.t, "the supervisor is small "+when, func() error {
		if rss := p.memory("Rss"); rss == 0 || rss > maxSupervisor {
			return fmt.Errorf("%d KiB resident, want at most %d", rss, maxSupervisor)
		}
		return nil
	})
	p.site.t.Logf("%s: RSS %d KiB, anonymous %d KiB, PSS %d KiB", when, p.memory("Rss"), p.memory("Anonymous"), p.memory("Pss"))
}

// memory reads a field of smaps_rollup (proc(5)), in KiB; 0 if there is none.
func (p *process) memory(field string) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); f[0] == field+":" {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return 0
}

func TestSupervisedAgentsExitCodeIsThatOfTheServingProcess(t *testing.T) {
	s := newSite(t)
	s.release("1.0.0")
	p := s.start("--supervise", "always")
	if err := sendSignal(s.mustInfo().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := waittest.Next(t, "the supervisor ends", p.done); !errors.As(err, &exit) || exit.ExitCode() != 128+9 {
		t.Errorf("the supervisor ended with %v, want 137", err)
	}
	if log := p.logged(); !strings.Contains(log, "ended by a signal: killed") {
		t.Errorf("the reason is missing in\n%s", log)
	}
}

func TestSIGTERMFromSystemdAndFromTheSupervisorAtOnceStillDrains(t *testing.T) {
	s := newSite(t)
	s.release("1.0.0")
	p := s.start()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 5 {
		// It may have ended before the last.
		if err := sendSignal(p.cmd.Process.Pid, syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		<-tick.C
	}
	if err := waittest.Next(t, "the agent ends", p.done); err != nil {
		t.Errorf("the agent ended with %v, want 0", err)
	}
}

func TestUnknownSuperviseModeIsWrongUsage(t *testing.T) {
	agentd(t, "run", "--id", "a1", "--etcd", "http://127.0.0.1:1", "--state-dir", t.TempDir(), "--supervise", "sometimes").
		fails(t, 2, "--supervise", "auto, always or never", "sometimes")
}

// TestResponseThatCannotBeMadeIsWrongUsage, said in flags: an operator has no
// fields and functions.
func TestResponseThatCannotBeMadeIsWrongUsage(t *testing.T) {
	for respond, says := range map[string][]string{
		"memory=reboot":                 {"reboot", "restart-plugin"},
		"memory=call":                   {"memory=call", "restart-plugin:<plugin>, refuse-upgrades, drain or stop"},
		"memory=restart-plugin:logtail": {"--plugins", "logtail"},
		"nosuch=drain":                  {"nosuch", "open_files"},
	} {
		agentd(t, "run", "--id", "a1", "--etcd", "http://127.0.0.1:1", "--state-dir", t.TempDir(), "--respond", respond).
			fails(t, 2, append(says, "--respond")...)
	}
}
