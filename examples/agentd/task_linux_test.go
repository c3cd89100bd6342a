package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

// crew is a site whose agent has the plugin jobs.
type crew struct {
	*site
	as   []string // the flags of whoever submits
	args []string // of the agent
}

func newCrew(t *testing.T, args ...string) *crew {
	t.Helper()
	c := &crew{site: newSite(t)}
	dir := c.plugins()
	installJobs(t, dir)
	c.as = []string{"--etcd", c.etcd.URL()}
	c.args = append([]string{"--plugins", dir}, args...)
	return c
}

// installJobs puts the plugin jobs into a directory; it is built once.
func installJobs(t testing.TB, dir string) {
	t.Helper()
	executable, err := jobsExecutable()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plugin.Install(dir, executable, plugin.Manifest{Name: "jobs", Version: "1.0.0", Capabilities: []string{"run"}}); err != nil {
		t.Fatal(err)
	}
}

//nolint:gochecknoglobals // a build is shared by all tests
var jobsExecutable = sync.OnceValues(func() (string, error) {
	path := filepath.Join(builds.dir, "jobs")
	cmd := exec.Command("go", "build", "-race=false", "-ldflags", "-s -w -X main.version=1.0.0", "-o", path, ".")
	cmd.Dir = filepath.Join("testdata", "jobs")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %w\n%s", cmd, err, out)
	}
	return path, nil
})

// task runs agentd task.
func (c *crew) task(args ...string) result {
	c.t.Helper()
	return agentd(c.t, slices.Concat([]string{"task"}, args, c.as)...)
}

// submit puts a job into the queue and returns its id.
func (c *crew) submit(job map[string]any, more ...string) string {
	c.t.Helper()
	r := c.task(append([]string{"submit", "--plugin", "jobs", payload(c.t, job)}, more...)...).ok(c.t)
	return strings.TrimSpace(r.stdout)
}

func payload(t testing.TB, job map[string]any) string {
	t.Helper()
	data, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (c *crew) info(id string) dispatch.Info {
	c.t.Helper()
	var info dispatch.Info
	if err := json.Unmarshal([]byte(c.task("show", "-o", "json", id).ok(c.t).stdout), &info); err != nil {
		c.t.Fatal(err)
	}
	return info
}

// reaches waits until a task is in a state.
func (c *crew) reaches(id string, state dispatch.State) (info dispatch.Info) {
	c.t.Helper()
	waittest.Nil(c.t, "task "+id+" is "+string(state), func() error {
		if info = c.info(id); info.State != state {
			return fmt.Errorf("it is %+v", info)
		}
		return nil
	})
	return info
}

// marks are the lines of a file that jobs write when they begin.
func marks(t testing.TB, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// TestOperatorGivesWorkAndSeesWhatBecomesOfIt with the commands, from the first
// task, submitted before any agent is there, to the dead-letter list.
func TestOperatorGivesWorkAndSeesWhatBecomesOfIt(t *testing.T) {
	t.Parallel()
	c := newCrew(t)
	early := c.submit(map[string]any{"say": []string{"early"}}, "--task-id", "early")
	if early != "early" {
		t.Errorf("--task-id gives %q", early)
	}
	if r := c.task("list").ok(t); !strings.Contains(r.stdout, "early") || !strings.Contains(r.stdout, "queued") {
		t.Errorf("the list before any agent is there:\n%s", r.stdout)
	}
	if r := c.task("workers").ok(t); !strings.Contains(r.stdout, "no agent") || !strings.Contains(r.stderr, "nobody assigns") {
		t.Errorf("without an agent workers says\n%s%s", r.stdout, r.stderr)
	}
	c.start(c.args...)
	if info := c.reaches(early, dispatch.Succeeded); info.Agent != "a1" || info.Attempt != 1 || info.Results != 1 {
		t.Errorf("%+v", info)
	}
	if r := c.task("workers").ok(t); !strings.Contains(r.stdout, "jobs 1.0.0") || !strings.Contains(r.stderr, "assigned by a1") {
		t.Errorf("workers says\n%s%s", r.stdout, r.stderr)
	}

	r := c.task("submit", "--plugin", "jobs", "--wait", "-l", ".id=a1", payload(t, map[string]any{"say": []string{"one\n", "two\x1b[2J"}})).ok(t)
	if r.stdout != "one\ntwo\uFFFD[2J\n" || !strings.Contains(r.stderr, "succeeded") {
		t.Errorf("--wait prints %q, and says\n%s", r.stdout, r.stderr)
	}
	file := writeFile(t, payload(t, map[string]any{"say": []string{"a\x00b"}}))
	if r := c.task("submit", "--plugin", "jobs", "--capability", "run", "--payload-file", file, "--wait", "--raw").ok(t); r.stdout != "a\x00b" {
		t.Errorf("--raw writes %q", r.stdout)
	}
	failing := map[string]any{"say": []string{"before"}, "fail": "the disk is full"}
	r = c.task("submit", "--plugin", "jobs", "--wait", "--retries", "1", "--retry-min", "10ms", "--retry-max", "20ms", "--task-id", "bad", "-o", "json", payload(t, failing))
	r.fails(t, 1, "bad", "dead", "the disk is full")
	var ended finishedTask
	if err := json.Unmarshal([]byte(r.stdout), &ended); err != nil || ended.Task.Failures != 2 || len(ended.Task.Attempts) != 2 || len(ended.Results) == 0 || ended.Results[0].Text != "before" {
		t.Errorf("--wait -o json: %v\n%s", err, r.stdout)
	}
	if r := c.task("list", "--state", "dead").ok(t); !strings.Contains(r.stdout, "bad") || !strings.Contains(r.stdout, "the disk is full") || strings.Contains(r.stdout, "early") {
		t.Errorf("the dead-letter list is\n%s", r.stdout)
	}
	if r := c.task("show", "bad").ok(t); !strings.Contains(r.stdout, "Runs that failed: 2, of which 2 may") || !strings.Contains(r.stdout, "1 on a1: failed") {
		t.Errorf("show says\n%s", r.stdout)
	}
	c.task("retry", "bad", "-o", "json").ok(t)
	waittest.Nil(t, "it has been tried again", func() error {
		if info := c.info("bad"); info.State != dispatch.Dead || info.Attempt < 3 {
			return fmt.Errorf("it is %+v", info)
		}
		return nil
	})
	c.task("retry", "early").fails(t, 1, "early", "finished")
	c.task("cancel", "early").fails(t, 1, "agentd: the task is finished: early ended as succeeded")
	c.task("show", "nobody").fails(t, 1, "nobody")
	c.task("cancel", "nobody").fails(t, 1, "agentd: no such task: nobody")
	c.task("submit", "--plugin", "jobs", "-").fails(t, 2, "--payload-file -")
	c.submit(map[string]any{"say": []string{"here"}}, "--policy", "all", "--wait", "--task-id", "each")
	if r := c.task("results", "each").ok(t); r.stdout != "" || !strings.Contains(r.stderr, "agentd task list --parent each") {
		t.Errorf("the results of a task for all agents are\n%s%s", r.stdout, r.stderr)
	}
	c.task("forget", "bad").ok(t)
	waittest.Until(t, "what is forgotten is gone", func() bool { return c.task("show", "bad").code == 1 })
	if again := c.submit(map[string]any{}, "--idempotency-key", "k", "--task-id", "once"); again != "once" {
		t.Error(again)
	}
	if r := c.task("submit", "--plugin", "jobs", "--idempotency-key", "k", "{}").ok(t); r.stdout != "once\n" || !strings.Contains(r.stderr, "already") {
		t.Errorf("the same task twice: %q\n%s", r.stdout, r.stderr)
	}
	c.task("submit", "--plugin", "jobs", "--idempotency-key", "k", `{"say":[]}`).fails(t, 1, "another task")
}

// TestCancelledTaskIsCutOffAndToldToWhoeverWaits.
func TestCancelledTaskIsCutOffAndToldToWhoeverWaits(t *testing.T) {
	t.Parallel()
	c := newCrew(t, "--tasks", "1")
	c.start(c.args...)
	never := filepath.Join(c.dir, "never")
	var waiting bytes.Buffer
	wait := exec.Command(binary(t, "1.0.0"), slices.Concat([]string{"task", "submit", "--plugin", "jobs", "--task-id", "long", "--wait", payload(t, map[string]any{"until": never})}, c.as)...)
	wait.Stderr = &waiting
	if err := wait.Start(); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the task runs", func() bool {
		r := c.task("show", "long")
		return r.code == 0 && strings.Contains(r.stdout, "running on a1")
	})
	// One at a time is what this agent does, and one more it may be given.
	c.submit(map[string]any{"until": never}, "--task-id", "next")
	c.submit(map[string]any{"until": never}, "--task-id", "third")
	waittest.Until(t, "who waits is told why", func() bool {
		return strings.Contains(c.task("show", "third").ok(t).stdout, "Why: it waits for its turn")
	})
	if r := c.task("show", "long").ok(t); !strings.Contains(r.stdout, "Results: counted at its end") {
		t.Errorf("of results not counted yet show says\n%s", r.stdout)
	}
	c.task("cancel", "third", "next", "long", "--by", "alice").ok(t)
	for _, id := range []string{"third", "next", "long"} {
		if info := c.reaches(id, dispatch.Cancelled); info.CancelledBy != "alice" {
			t.Errorf("%s: %+v", id, info)
		}
	}
	if err := wait.Wait(); err == nil || wait.ProcessState.ExitCode() != 1 {
		t.Errorf("waiting for a task that is cancelled ends with %v", err)
	}
	if said := waiting.String(); !strings.Contains(said, "cancelled: by alice") || !strings.Contains(said, "running on a1") {
		t.Errorf("the wait says\n%s", said)
	}
}

// TestInterruptEndsTheWaitingAndNotTheTask.
func TestInterruptEndsTheWaitingAndNotTheTask(t *testing.T) {
	t.Parallel()
	c := newCrew(t)
	c.start(c.args...)
	until := filepath.Join(c.dir, "go")
	id := c.submit(map[string]any{"say": []string{"first"}, "until": until})
	var out bytes.Buffer
	follow := exec.Command(binary(t, "1.0.0"), slices.Concat([]string{"task", "results", "-f", id}, c.as)...)
	said, err := os.Create(filepath.Join(c.dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	follow.Stdout, follow.Stderr = said, &out
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the first result is printed while the task runs", func() bool {
		text, err := os.ReadFile(said.Name())
		return err == nil && string(text) == "first\n"
	})
	if err := follow.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := follow.Wait(); err == nil || !strings.Contains(out.String(), "the task goes on") {
		t.Errorf("interrupted: %v\n%s", err, out.String())
	}
	if err := said.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(until, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.reaches(id, dispatch.Succeeded)
	if r := c.task("results", id).ok(t); r.stdout != "first\n" {
		t.Errorf("the results are %q", r.stdout)
	}
}

// TestTaskThatRunsIsDoneOnceThroughAnUpgrade: what the superseded process has
// begun it finishes, and the next one runs what comes after.
func TestTaskThatRunsIsDoneOnceThroughAnUpgrade(t *testing.T) {
	t.Parallel()
	c := newCrew(t)
	c.release("1.0.0", "1.1.0")
	c.start(c.args...)
	mark, until := filepath.Join(c.dir, "mark"), filepath.Join(c.dir, "go")
	id := c.submit(map[string]any{"mark": mark, "until": until, "say": []string{"done"}})
	waittest.Until(t, "the task runs", func() bool { return len(marks(t, mark)) == 1 && marks(t, mark)[0] != "" })
	c.upgrade("1.1.0").ok(t)
	waittest.Until(t, "the successor serves", func() bool { return c.mustInfo().Version == "1.1.0" })
	after := c.submit(map[string]any{"say": []string{"after"}})
	if err := os.WriteFile(until, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if info := c.reaches(id, dispatch.Succeeded); info.Attempt != 1 || info.Losses != 0 {
		t.Errorf("%+v", info)
	}
	c.reaches(after, dispatch.Succeeded)
	if lines := marks(t, mark); len(lines) != 1 {
		t.Errorf("the task was begun %d times: %q", len(lines), lines)
	}
}

// TestTaskThatRunsIsFinishedBeforeItsAgentStops: the plugin outlives the order
// to stop by as long as its tasks need, within the drain.
func TestTaskThatRunsIsFinishedBeforeItsAgentStops(t *testing.T) {
	t.Parallel()
	c := newCrew(t)
	p := c.start(c.args...)
	mark, until := filepath.Join(c.dir, "mark"), filepath.Join(c.dir, "go")
	id := c.submit(map[string]any{"mark": mark, "until": until, "say": []string{"done"}})
	waittest.Until(t, "the task runs", func() bool { return marks(t, mark)[0] != "" })
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the agent drains", func() bool { return strings.Contains(p.logged(), "draining") })
	if err := os.WriteFile(until, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := waittest.Next(t, "the agent ends", p.done); err != nil {
		t.Errorf("the agent ends with %v", err)
	}
	c.start(c.args...)
	if info := c.reaches(id, dispatch.Succeeded); info.Attempt != 1 || len(marks(t, mark)) != 1 {
		t.Errorf("begun %q: %+v", marks(t, mark), info)
	}
}

// TestTaskOfAnAgentThatIsKilledIsRunAgain by the agent that takes its place.
func TestTaskOfAnAgentThatIsKilledIsRunAgain(t *testing.T) {
	t.Parallel()
	c := newCrew(t, "--ttl", "2s", "--heartbeat", "500ms")
	p := c.start(c.args...)
	mark, until := filepath.Join(c.dir, "mark"), filepath.Join(c.dir, "go")
	id := c.submit(map[string]any{"mark": mark, "until": until})
	waittest.Until(t, "the task runs", func() bool { return marks(t, mark)[0] != "" })
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := waittest.Next(t, "the agent ends", p.done); err == nil {
		t.Error("an agent that is killed ends well")
	}
	if err := os.WriteFile(until, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.start(c.args...)
	info := c.reaches(id, dispatch.Succeeded)
	if lines := marks(t, mark); len(lines) != 2 || info.Failures != 0 {
		t.Errorf("begun %q: %+v", lines, info)
	}
}

// TestDispatcherAloneAssignsWhatAgentsMayNot.
func TestDispatcherAloneAssignsWhatAgentsMayNot(t *testing.T) {
	t.Parallel()
	c := newCrew(t, "--no-dispatch")
	c.start(c.args...)
	id := c.submit(map[string]any{})
	alone := exec.Command(binary(t, "1.0.0"), "task", "dispatcher", "--etcd", c.etcd.URL(), "--name", "d1")
	var said bytes.Buffer
	alone.Stderr = &said
	if err := alone.Start(); err != nil {
		t.Fatal(err)
	}
	c.reaches(id, dispatch.Succeeded)
	if r := c.task("workers").ok(t); !strings.Contains(r.stderr, "assigned by d1") {
		t.Errorf("workers says\n%s", r.stderr)
	}
	if err := alone.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := alone.Wait(); err != nil || time.Since(began) > 10*time.Second {
		t.Errorf("it ends with %v after %v\n%s", err, time.Since(began), said.String())
	}
	if r := c.task("workers").ok(t); !strings.Contains(r.stderr, "nobody assigns") {
		t.Errorf("after its end workers says\n%s", r.stderr)
	}
}
