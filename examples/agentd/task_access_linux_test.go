package main

import (
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

// TestAgentRunsTasksAsItsOwnUserAndNoMore: it takes and answers its own, and can
// neither give work to others nor assign it unless it was allowed to.
func TestAgentRunsTasksAsItsOwnUserAndNoMore(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "/agents/", "a1")
	c := newCrew(t)
	c.as = g.as("operator")
	p := c.start(append(c.args, g.as("agent-a1")...)...)
	id := c.submit(map[string]any{"say": []string{"done"}})
	waittest.Until(t, "the agent says that it may not assign tasks", func() bool { return strings.Contains(p.logged(), "no candidate here") })
	if info := c.info(id); info.State != dispatch.Queued || !strings.Contains(info.Waiting, "dispatcher") {
		t.Errorf("nobody may assign tasks, and it is %+v", info)
	}
	agentd(t, append([]string{"task", "submit", "--plugin", "jobs", "{}"}, g.as("agent-a1")...)...).fails(t, 1, "permission denied")
	agentd(t, append([]string{"task", "list"}, g.as("reader")...)...).fails(t, 1, "permission denied")

	alone := exec.Command(binary(t, "1.0.0"), append([]string{"task", "dispatcher"}, g.as("dispatcher")...)...)
	if err := alone.Start(); err != nil {
		t.Fatal(err)
	}
	if info := c.reaches(id, dispatch.Succeeded); info.Agent != "a1" || info.Results != 1 {
		t.Errorf("%+v", info)
	}
	if err := alone.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := alone.Wait(); err != nil {
		t.Errorf("the dispatcher ends with %v", err)
	}

	agentd(t, slices.Concat([]string{"etcd", "add-agent", "--dispatch", "--passwords", g.passwords, "a1"}, g.as("root"))...).ok(t)
	again := slices.Concat([]string{"etcd", "add-agent", "--passwords", g.passwords, "a1"}, g.as("root"))
	if r := agentd(t, again...).ok(t); !strings.Contains(r.stdout, "nothing to do") {
		t.Errorf("the role is taken away again:\n%s", r.stdout)
	}
	p.stop()
	p = c.start(append(c.args, g.as("agent-a1")...)...)
	c.reaches(c.submit(map[string]any{}), dispatch.Succeeded)
	if text := p.logged(); strings.Contains(text, "permission denied") {
		t.Errorf("the agent was refused something:\n%s", text)
	}
}
