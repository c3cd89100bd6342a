package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
)

// show is a quickstart that runs as a process of its own.
type show struct {
	t              *testing.T
	cmd            *exec.Cmd
	done           chan struct{}
	temp           string
	stdout, stderr waittest.Log
}

// begin builds the quickstart and starts it.
func begin(t *testing.T, args ...string) *show {
	t.Helper()
	if testing.Short() {
		t.Skip("builds and runs everything")
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "quickstart")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// The name of a test is too long for the plugins' sockets.
	temp, err := os.MkdirTemp("", "quick") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(temp) })
	q := &show{t: t, cmd: exec.Command(binary, args...), done: make(chan struct{}), temp: temp}
	q.cmd.Env = append(os.Environ(), "TMPDIR="+q.temp)
	q.cmd.Stdout, q.cmd.Stderr = &q.stdout, &q.stderr
	if err := q.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = q.cmd.Wait() // the exit code tells
		close(q.done)
	}()
	t.Cleanup(func() {
		_ = q.cmd.Process.Signal(os.Interrupt)
		<-q.done
		if t.Failed() {
			t.Logf("it said\n%s%s", q.stdout.String(), q.stderr.String())
		}
	})
	return q
}

// end waits for it and returns its exit code.
func (q *show) end() int {
	<-q.done
	return q.cmd.ProcessState.ExitCode()
}

// cold is how long a step may take on a slow machine that has to compile
// everything first.
const cold = 5 * time.Minute

// says waits until a line on standard output matches, and returns what its
// first group matched.
func (q *show) says(pattern string) string {
	q.t.Helper()
	line := regexp.MustCompile(pattern)
	var found []string
	waittest.Within(q.t, cold, "the quickstart prints "+pattern, func() bool {
		found = line.FindStringSubmatch(q.stdout.String())
		select {
		case <-q.done:
			if found == nil {
				q.t.Fatalf("the quickstart ended before it printed %s", pattern)
			}
		default:
		}
		return found != nil
	})
	return found[len(found)-1]
}

// gone fails the test if a process is left that was started from the
// temporary directory.
func (q *show) gone() {
	q.t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		q.t.Fatal(err)
	}
	for _, link := range links {
		if exe, _ := os.Readlink(link); strings.HasPrefix(exe, q.temp) {
			q.t.Errorf("%s still executes %s", filepath.Dir(link), exe)
		}
	}
}

// left lists what is in the temporary directory.
func (q *show) left() []string {
	q.t.Helper()
	found, err := filepath.Glob(filepath.Join(q.temp, "*"))
	if err != nil {
		q.t.Fatal(err)
	}
	return found
}

func TestQuickstartDoesWhatItSaysAndLeavesNothing(t *testing.T) {
	q := begin(t, "-o", "json")
	code := q.end()
	var r result
	if err := json.Unmarshal([]byte(q.stdout.String()), &r); err != nil {
		t.Fatalf("standard output is no JSON: %v", err)
	}
	if code != 0 || !r.OK || len(r.Problems) > 0 || len(r.Steps) != 11 {
		t.Fatalf("exit code %d after %d steps, problems %q", code, len(r.Steps), r.Problems)
	}
	if l := r.Load; l.Requests < 1000 || l.Failed != 0 || l.Refused != 0 || l.Versions["1.0.0"] == 0 || l.Versions["1.1.0"] == 0 || l.Pause.For <= 0 {
		t.Errorf("the load saw %+v", l)
	}
	if a := r.Records; a.Acknowledged < 1000 || a.Found < a.Acknowledged || a.Missing != 0 || a.Repeated != 0 || a.Lines == 0 || a.Samples == 0 {
		t.Errorf("the records are %+v", a)
	}
	steps := q.stderr.String()
	for _, says := range []string{
		"runs 1.0.0 with pid", "in force after", "max_file_size", "committed: 1.1.0 runs", "rolled_back: the successor was unhealthy",
		"did not stay alive", "digest differs", "gave way to 1.1.0",
	} {
		if !strings.Contains(steps, says) {
			t.Errorf("the steps do not tell of %q", says)
		}
	}
	if strings.ContainsAny(steps, "\x1b\r") {
		t.Error("what is no terminal was given colours")
	}
	q.gone()
	if left := q.left(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestInterruptedQuickstartEndsEveryProcess interrupts it where the most
// processes run: two agents, one of which is nobody's child for long.
func TestInterruptedQuickstartEndsEveryProcess(t *testing.T) {
	q := begin(t)
	q.says(`probation, until`)
	if err := q.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := q.end(); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	q.gone()
	if left := q.left(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestQuickstartFailsWhenTheAgentDoes kills the agent under load: failures
// must show, and what helps to find them must stay.
func TestQuickstartFailsWhenTheAgentDoes(t *testing.T) {
	q := begin(t)
	pid, err := strconv.Atoi(q.says(`runs 1\.0\.0 with pid (\d+)`))
	if err != nil {
		t.Fatal(err)
	}
	q.says(`revision \d+ in force`)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := q.end(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	q.gone()
	left := q.left()
	if len(left) != 1 || !strings.Contains(q.stdout.String(), "kept: "+left[0]) {
		t.Errorf("want the directory kept and named, found %v", left)
	}
	for _, says := range []string{"signal: killed", "FAILED", "0 missing"} {
		if !strings.Contains(q.stdout.String(), says) {
			t.Errorf("it does not say %q", says)
		}
	}
	if regexp.MustCompile(`(?m)^.*failures +0$`).MatchString(q.stdout.String()) {
		t.Error("no request failed though the agent was killed")
	}
}
