package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// hook collects the events that a webhook is told of.
type hook struct {
	mu     sync.Mutex
	events []rollout.Event
}

func (h *hook) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var record rollout.Record
	err := json.NewDecoder(r.Body).Decode(&record)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		h.events = append(h.events, record.Event)
	}
}

func (h *hook) told(e rollout.Event) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Contains(h.events, e)
}

// fleetOfOne is a site with one agent that controls its own rollouts.
func fleetOfOne(t *testing.T) (*site, *hook, func(args ...string) result) {
	t.Helper()
	s, h := newSite(t), &hook{}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	s.release("1.1.0")
	s.startForGood("--label", "env=test", "--rollout-controller", "--webhook", server.URL)
	run := func(args ...string) result {
		t.Helper()
		return agentd(t, append([]string{"rollout", args[0], "--etcd", s.etcd.URL()}, args[1:]...)...)
	}
	waittest.Until(t, "a controller is elected", func() bool {
		return strings.Contains(run("status", "-o", "json").ok(t).stdout, `"leader"`)
	})
	return s, h, run
}

// TestRolloutCommandsEndWithWhatBecameOfTheRollout: a script that starts one goes
// by the code alone.
func TestRolloutCommandsEndWithWhatBecameOfTheRollout(t *testing.T) {
	t.Parallel()
	s, told, run := fleetOfOne(t)
	if r := run("status").ok(t); !strings.Contains(r.stdout, "fleet default has no rollout") || !strings.Contains(r.stdout, "Controller: a1.") {
		t.Errorf("of none status says\n%s", r.stdout)
	}
	run("revert").fails(t, 1, "no rollout")
	run("pause").fails(t, 1, "no rollout")
	good := writeFile(t, "log: {level: debug}\n")
	bad := writeFile(t, "log: {level: loud}\n")
	start := func(file string, more ...string) result {
		t.Helper()
		return run(append([]string{"start", "--config", file, "--scope", "global"}, more...)...)
	}
	// It would be refused by an agent, or by nobody for want of one.
	run("start", "--config", writeFile(t, "log: {depth: 3}\n"), "--scope", "global", "--stage", "name=all").fails(t, 1, "depth")
	start(good).fails(t, 1, "stage production has no agent", "--force")
	// A dry run ends as the start would, and says what is in the way and what is not.
	r := start(writeFile(t, "log: {depth: 3}\n"), "--dry-run", "--environment", "prod")
	r.fails(t, 1, "would not be begun")
	for _, says := range []string{"obstacle: stage production has no agent", "depth", "note: no agent of the fleet is of environment prod"} {
		if !strings.Contains(r.stderr, says) {
			t.Errorf("a dry run does not say %q:\n%s", says, r.stderr)
		}
	}
	start(good, "--dry-run", "--force").ok(t)

	start(good, "--stage", "name=all", "--wait", "1m").ok(t)
	waittest.Until(t, "the webhook is told", func() bool { return told.told(rollout.EventCompleted) })
	run("status", "--watch").ok(t)
	// The scope had no document before, and none again.
	run("revert", "--wait", "1m").ok(t)
	agentd(t, "config", "get", "--etcd", s.etcd.URL(), "global").fails(t, 1, "global")

	start(bad, "--stage", "name=all", "--on-failure", "halt", "--wait", "1m").fails(t, exitHalted, "found it halted", "loud")
	start(good, "--stage", "name=all").fails(t, 1, "another rollout is under way", "halted", "--replace")
	run("status", "--watch").fails(t, exitHalted, "found it halted", "promote --force")
	run("promote").fails(t, 1, "it is halted", "resume, revert or abort", "--force")
	run("promote", "--force").ok(t)
	waittest.Until(t, "what has failed is taken as it is", func() bool {
		return strings.Contains(run("status").ok(t).stdout, "COMPLETED")
	})
	start(bad, "--stage", "name=all", "--on-failure", "halt", "--wait", "1m").fails(t, exitHalted, "found it halted", "loud")
	run("abort", "--by", "ops", "--reason", "a typing error").ok(t)
	run("status", "--watch").fails(t, exitAborted, "found it aborted", "a typing error")

	start(bad, "--stage", "name=all", "--wait", "1m").fails(t, exitReverted, "found it reverted", "loud")

	start(good, "--stage", "name=all,gate=true", "--wait", "300ms").fails(t, 3, "within 300ms", "waits for promote")
	// Else whoever publishes beside it would hear of it hours later.
	for scope, told := range map[string]bool{"global": true, "group/web": false} {
		if r := agentd(t, "config", "put", "--dry-run", "--etcd", s.etcd.URL(), scope, good).ok(t); strings.Contains(r.stderr, "pauses at its end") != told {
			t.Errorf("beside a rollout of global, put of %s says %q", scope, r.stderr)
		}
	}
	run("pause").ok(t)
	run("status", "--watch", "--wait", "300ms").fails(t, 3, "paused", "rollout resume")
	followed := make(chan result, 1)
	go func() {
		followed <- start(good, "--stage", "name=all,gate=true", "--replace", "--wait", "1m")
	}()
	waittest.Until(t, "it waits at its gate", func() bool {
		return strings.Contains(run("status").ok(t).stdout, "waits for promote")
	})
	start(good, "--stage", "name=all", "--replace", "--wait", "1m").ok(t)
	(<-followed).fails(t, exitAborted, "found it replaced")

	run("history", "nosuch").fails(t, 1, "nosuch")
	r = run("history").ok(t)
	for _, says := range []string{"ops", "a typing error", "replaced", "halted", "reverted", "completed", "controller a1"} {
		if !strings.Contains(r.stdout, says) {
			t.Errorf("the history does not say %q:\n%s", says, r.stdout)
		}
	}
}

// TestBrakeTellsWhoHadPulledIt, whose reason would be lost, and works whatever the
// plan is, which a start replaces.
func TestBrakeTellsWhoHadPulledIt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	run := func(args ...string) result {
		t.Helper()
		return agentd(t, append([]string{"rollout", args[0], "--etcd", s.etcd.URL()}, args[1:]...)...)
	}
	if r := agentd(t, "pin", "list", "--etcd", s.etcd.URL()).ok(t); !strings.Contains(r.stderr, "no environment is pinned") {
		t.Errorf("without pins it says %q", r.stderr)
	}
	if r := run("freeze", "--by", "ann", "--reason", "storm").ok(t); strings.Contains(r.stdout, "it was") {
		t.Errorf("nobody had frozen it:\n%s", r.stdout)
	}
	if _, err := s.etcd.Client(t).Put(t.Context(), "/agents/plan/default", "{"); err != nil {
		t.Fatal(err)
	}
	if r := run("freeze", "--by", "bob").ok(t); !strings.Contains(r.stdout, "it was frozen by ann (storm)") {
		t.Errorf("who had frozen it is not told:\n%s", r.stdout)
	}
	for _, command := range []string{"status", "pause", "revert"} {
		run(command).fails(t, 1, "cannot be read", "agentd rollout start --replace")
	}
	start := []string{"start", "--config", writeFile(t, "{}\n"), "--scope", "global", "--stage", "name=all", "--force"}
	run(start...).fails(t, 1, "cannot be read", "agentd rollout start --replace")
	run(append(start, "--replace")...).ok(t)
	run("status").ok(t)
	if r := run("history", "freeze").ok(t); !strings.Contains(r.stdout, "ann") || !strings.Contains(r.stdout, "bob") {
		t.Errorf("the history of the brake is\n%s", r.stdout)
	}
}

// TestDryRunBeginsNothingAndTellsWhoComesFirst, of a release with its checks.
func TestDryRunBeginsNothingAndTellsWhoComesFirst(t *testing.T) {
	t.Parallel()
	s, _, run := fleetOfOne(t)
	release := []string{"--repo", s.repo, "--trust", s.trust, "--stage", "name=first,selector=env=test,percent=0.01", "--stage", "name=all"}
	start := func(more ...string) result {
		t.Helper()
		return run(append(append([]string{"start"}, release...), more...)...)
	}
	var preview struct {
		Plan   rollout.Plan
		Stages []struct {
			Name   string
			Agents []string
		}
	}
	r := start("--dry-run", "-o", "json", "1.1.0").ok(t)
	if err := json.Unmarshal([]byte(r.stdout), &preview); err != nil || len(preview.Stages) != 2 || !slices.Equal(preview.Stages[0].Agents, []string{"a1"}) || len(preview.Stages[1].Agents) > 0 {
		t.Errorf("the preview is %s (%v)", r.stdout, err)
	}
	if r := run("status").ok(t); !strings.Contains(r.stdout, "no rollout") {
		t.Errorf("a dry run began something:\n%s", r.stdout)
	}
	start("9.9.9").fails(t, 1, "9.9.9")
	s.release("1.3.0")
	agentd(t, "release", "yank", "--key", s.key, "--repo", s.repo, "--reason", "it crashes", "1.3.0").ok(t)
	start("1.3.0").fails(t, 1, "it crashes")
	var status rolloutStatus
	r = start("--rollout-id", preview.Plan.ID, "--wait", "1m", "-o", "json", "1.1.0").ok(t)
	if err := json.Unmarshal([]byte(r.stdout), &status); err != nil || status.Plan == nil || status.Plan.ID != preview.Plan.ID || status.Plan.State != rollout.Completed {
		t.Errorf("the end is %s (%v)", r.stdout, err)
	}
	if i := s.mustInfo(); i.Version != "1.1.0" {
		t.Errorf("%s runs", i.Version)
	}
	run("start", "--config", writeFile(t, "{}"), "--scope", "agent/a1", "--stage", "name=all").fails(t, 2, "scope")
	run("revert", "--to", "1.1.0").fails(t, 2, "--to", "another release")
	run("revert", "--to", "0.9.0").fails(t, 1, "0.9.0", "found 0")
	run("revert", "--to", "0.9.0", "--repo", s.repo, "--trust", s.trust).fails(t, 1, "0.9.0")
	run("revert", "--reason", "slow", "--wait", "1m").ok(t)
	if i := s.mustInfo(); i.Version != "1.0.0" {
		t.Errorf("%s runs after the revert", i.Version)
	}
}
