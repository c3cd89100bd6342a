package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// emulator is a terminal as far as the live view uses one.
type emulator struct {
	mu    sync.Mutex
	lines []string
	row   int
	odd   string // what it does not know
}

var escape = regexp.MustCompile(`^\x1b\[(\d*)([A-Za-z])`)

// read takes what a program writes until the terminal is closed.
func (e *emulator) read(from io.Reader) {
	r := bufio.NewReader(from)
	for {
		line, err := r.ReadString('\n') // the view ends each drawing with one
		e.mu.Lock()
		e.take(line)
		e.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (e *emulator) take(text string) {
	for text != "" {
		if m := escape.FindStringSubmatch(text); m != nil {
			n, _ := strconv.Atoi(m[1])
			switch m[2] {
			case "A":
				e.row = max(0, e.row-n)
			case "J":
				e.lines = e.lines[:min(e.row, len(e.lines))]
			default:
				e.odd += m[0]
			}
			text = text[len(m[0]):]
			continue
		}
		switch c := text[0]; c {
		case '\r':
		case '\n':
			e.row++
		case 0x1b:
			e.odd += fmt.Sprintf("%q", text)
		default:
			for len(e.lines) <= e.row {
				e.lines = append(e.lines, "")
			}
			e.lines[e.row] += string(c)
		}
		text = text[1:]
	}
}

func (e *emulator) shown() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.lines, "\n") + e.odd
}

// TestLiveViewStaysInOnePlaceOfARealTerminal and is left there when the rollout
// has ended, with the exit code that says how.
func TestLiveViewStaysInOnePlaceOfARealTerminal(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	op, err := rollout.NewOperator(rollout.OperatorConfig{Client: server.Client(t)})
	if err != nil {
		t.Fatal(err)
	}
	p := rollout.Plan{Stages: []rollout.Stage{{Name: "first", Selector: "env=test"}, {Name: "rest"}}}
	p.Target.Config, p.By = &rollout.ConfigTarget{Scope: "global"}, "ops"
	act := rollout.Act{By: "ops", Reason: "a long reason that does not fit on a line of this narrow terminal at all"}
	if _, err := op.Start(t.Context(), p, rollout.StartOptions{Document: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	master, slave := terminal(t)
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 20, Col: 60}); err != nil {
		t.Fatal(err)
	}
	screen := &emulator{}
	go screen.read(master)
	cmd := exec.CommandContext(t.Context(), binary(t, "1.0.0"), "rollout", "status", "--watch", "--etcd", server.URL())
	cmd.Stdout, cmd.Stderr, cmd.Env = slave, io.Discard, append(os.Environ(), "TERM=xterm")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	shows := func(says ...string) {
		t.Helper()
		waittest.Until(t, "the screen shows "+strings.Join(says, ", "), func() bool {
			now := screen.shown()
			for _, s := range says {
				if strings.Count(now, s) != 1 {
					return false
				}
			}
			return true
		})
	}
	shows("Rollout ", "RUNNING", "No controller is elected", "  first [", "  rest  [")
	if _, err := op.Pause(t.Context(), act); err != nil {
		t.Fatal(err)
	}
	shows("Rollout ", "PAUSED", "  first [", "  rest  [")
	if _, err := op.Abort(t.Context(), act); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code tells
	if code := cmd.ProcessState.ExitCode(); code != exitAborted {
		t.Errorf("exit code %d, want %d", code, exitAborted)
	}
	shows("Rollout ", "ABORTED", "  first [", "  rest  [")
	now := screen.shown()
	if strings.Contains(now, "RUNNING") || strings.Contains(now, "PAUSED") || screen.odd != "" {
		t.Errorf("at the end the screen shows\n%s", now)
	}
	for line := range strings.Lines(now) {
		if len(strings.TrimSuffix(line, "\n")) >= 60 {
			t.Errorf("a line is as wide as the terminal, or wider: %q", line)
		}
	}
}
