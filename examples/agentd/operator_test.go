package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

// ways are how an operator reaches the agent.
func (s *site) ways() map[string][]string {
	return map[string][]string{
		"by order":        {"--etcd", s.etcd.URL(), "--agent", "a1"},
		"on its own host": {"--state-dir", s.state},
	}
}

// startForGood is start, and waits until the release is one that boots, which
// is a moment after it is ready.
func (s *site) startForGood(more ...string) *process {
	s.t.Helper()
	p := s.start(more...)
	waittest.Nil(s.t, "the release is adopted", func() error { _, err := upgrade.Inspect(s.state); return err })
	return p
}

// operate runs a command of one or two words by a way.
func operate(t testing.TB, words string, way []string, more ...string) result {
	t.Helper()
	return agentd(t, append(append(strings.Fields(words), way...), more...)...)
}

// shows waits until a command's standard output contains all of says.
func shows(t testing.TB, says []string, args ...string) {
	t.Helper()
	waittest.Until(t, strings.Join(args, " ")+" shows "+strings.Join(says, ", "), func() bool {
		r := agentd(t, args...).ok(t)
		for _, s := range says {
			if !strings.Contains(r.stdout, s) {
				return false
			}
		}
		return true
	})
}

func TestRollbackByOrderNeedsNeitherRepositoryNorAnIndexInForce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("1.0.0", "1.1.0")
	s.startForGood("--probation", "300ms")
	s.upgrade("1.1.0").ok(t)
	shows(t, []string{"A rollback can go to: 1.0.0."}, "status", "--state-dir", s.state)
	if err := os.RemoveAll(s.repo); err != nil {
		t.Fatal(err)
	}
	// As if the index that the agent saw last had expired long ago.
	trust := filepath.Join(s.state, "trust.json")
	data, err := os.ReadFile(trust)
	if err != nil {
		t.Fatal(err)
	}
	var seen map[string]any
	if err := json.Unmarshal(data, &seen); err != nil {
		t.Fatal(err)
	}
	seen["seen"] = time.Now().Add(20 * 365 * 24 * time.Hour).UTC().Format(time.RFC3339)
	if data, err = json.Marshal(seen); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(trust, data, 0o600); err != nil {
		t.Fatal(err)
	}
	order := s.ways()["by order"]
	operate(t, "rollback", order, "--expect", "1.0.0").fails(t, 1, "expects 1.0.0 to run", "1.1.0", "failed")
	operate(t, "rollback", order, "0.9.0").fails(t, 1, "0.9.0", "1.0.0 is")
	r := operate(t, "rollback", order, "-o", "json").ok(t)
	var st upgrade.Status
	if err := json.Unmarshal([]byte(r.stdout), &st); err != nil || st.State != upgrade.Committed || st.Action != upgrade.ActionRollback || st.Running.Version != "1.0.0" {
		t.Errorf("rollback says %s (%v)", r.stdout, err)
	}
	if !strings.Contains(r.stderr, "probation") || !strings.Contains(r.stderr, "committed: 1.0.0 runs") {
		t.Errorf("the progress is\n%s", r.stderr)
	}
	if i := s.mustInfo(); i.Version != "1.0.0" {
		t.Errorf("%s runs", i.Version)
	}
	shows(t, []string{"back to 1.0.0 committed"}, "fleet", "--etcd", s.etcd.URL())
	shows(t, []string{"the rollback from 1.1.0@sha256:", " to 1.0.0, asked for", "A rollback can go to: 1.1.0@sha256:"}, "status", "--state-dir", s.state)
	// The second one goes forward again, and says so before it does.
	r = operate(t, "rollback", order).ok(t)
	if course, asked := strings.Index(r.stdout, "rollback of a1: from 1.0.0 to 1.1.0, the release before"), strings.Index(r.stdout, "asked a1 for it"); course < 0 || course > asked {
		t.Errorf("a rollback from 1.0.0 says\n%s", r.stdout)
	}
	if r := operate(t, "rollback", order, "1.1.0").ok(t); !strings.Contains(r.stdout, "nothing to do: 1.1.0 runs already") {
		t.Errorf("rollback to what runs says\n%s", r.stdout)
	}
}

func TestRollbackByStateDirectoryWorksWhileEtcdIsAwayAndAnOldOrderDoesNotUndoIt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("1.0.0", "1.1.0")
	s.startForGood("--probation", "300ms")
	var up upgrade.Status
	if err := json.Unmarshal([]byte(s.upgrade("1.1.0", "-o", "json").ok(t).stdout), &up); err != nil {
		t.Fatal(err)
	}
	s.etcd.Stop()
	operate(t, "rollback", s.ways()["by order"], "--timeout", "500ms").fails(t, 1, s.etcd.URL())
	r := operate(t, "rollback", s.ways()["on its own host"], "--by", "pager").ok(t)
	if !strings.Contains(r.stdout, "committed: 1.0.0 runs") {
		t.Errorf("the progress is\n%s", r.stdout)
	}
	if i := s.mustInfo(); i.Version != "1.0.0" {
		t.Errorf("%s runs", i.Version)
	}
	shows(t, []string{"asked for by pager", "committed"}, "status", "--state-dir", s.state)
	s.etcd.Restart()
	waittest.Until(t, "the agent is ready again", func() bool { return status(s.url(s.admin, "/readyz")) == 200 })
	// As if etcd had gone away before the upgrade was acknowledged.
	client := s.etcd.Client(t)
	order, err := json.Marshal(agent.Order{Schema: 1, Request: upgrade.Request{
		ID: up.OrderID, Action: upgrade.ActionUpgrade, Pin: release.Pin{Version: "1.1.0", Digest: up.To.Manifest},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(t.Context(), "/agents/order/a1", string(order)); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the old order is acknowledged", func() bool {
		res, err := client.Get(t.Context(), "/agents/order/a1")
		return err == nil && len(res.Kvs) == 0
	})
	if e := s.fleet(); e.Version != "1.0.0" || e.Status.Upgrade.OrderID == up.OrderID {
		t.Errorf("an order that had ended was performed again: %+v", e.Status.Upgrade.Attempt)
	}
}

func TestUpgradeAndRollbackOfAStateDirectoryWithoutItsAgent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("1.0.0", "1.1.0")
	p := s.startForGood("--probation", "300ms")
	local := s.ways()["on its own host"]
	operate(t, "upgrade", local, "--repo", s.repo, "--trust", s.trust, "1.1.0").ok(t)
	p.stop()
	operate(t, "upgrade", local, "--repo", s.repo, "--trust", s.trust, "1.1.0").fails(t, 1, "no agent runs")
	r := operate(t, "rollback", local).ok(t)
	if !strings.Contains(r.stdout, "1.0.0 boots at the next start") || !strings.Contains(s.current(), "1.0.0-") {
		t.Errorf("current is %s; rollback says\n%s", s.current(), r.stdout)
	}
	// As a running agent answers it.
	if r := operate(t, "rollback", local, "1.0.0").ok(t); !strings.Contains(r.stdout, "nothing to do: 1.0.0 is current already") {
		t.Errorf("rollback to what is current says\n%s", r.stdout)
	}
	s.startForGood()
	if i := s.mustInfo(); i.Version != "1.0.0" {
		t.Errorf("%s runs", i.Version)
	}
}

func TestHeldAgentRefusesWhoeverAsksUntilTheHoldIsCleared(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("1.0.0", "1.1.0")
	pid := s.startForGood("--probation", "300ms").cmd.Process.Pid
	for name, way := range s.ways() {
		t.Run(name, func(t *testing.T) {
			operate(t, "hold set", way, "--reason", "audit of "+name, "--by", "ops").ok(t)
			says := []string{"held by ops since", "audit of " + name}
			shows(t, says, append([]string{"hold", "show"}, way...)...)
			shows(t, says, "status", "--state-dir", s.state)
			shows(t, says, "fleet", "--etcd", s.etcd.URL())
			s.upgrade("1.1.0", "--force").fails(t, 1, "held by ops", "audit of "+name)
			operate(t, "rollback", s.ways()["on its own host"]).fails(t, 1, "held by ops")
			s.unchanged(t, pid)
			operate(t, "hold clear", way).ok(t)
			shows(t, []string{"not held"}, append([]string{"hold", "show"}, way...)...)
			shows(t, []string{"Hold: not held."}, "status", "--state-dir", s.state)
		})
	}
	s.upgrade("1.1.0").ok(t)
}

func TestClearedReleaseMayBeTriedAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("1.0.0", "1.3.0")
	s.startForGood("--probation", "300ms")
	for name, way := range s.ways() {
		t.Run(name, func(t *testing.T) {
			s.upgrade("1.3.0").fails(t, 1, "exit status 2")
			list := append([]string{"quarantine", "list"}, way...)
			shows(t, []string{"1.3.0", "binary", "until it is cleared", "exit status 2"}, list...)
			shows(t, []string{"1.3.0 rolled_back", "release 1.3.0 (binary, until it is cleared)"}, "fleet", "--etcd", s.etcd.URL())
			s.upgrade("1.3.0").fails(t, 1, "quarantine")
			operate(t, "quarantine clear", way, "1.2.9").fails(t, 1, "1.2.9", "not in quarantine")
			if r := operate(t, "quarantine clear", way, "1.3.0", "-o", "json").ok(t); r.stdout != "[]\n" {
				t.Errorf("quarantine clear -o json prints %s, want what is left", r.stdout)
			}
			shows(t, []string{"the quarantine is empty"}, list...)
			var none []upgrade.Quarantined
			if err := json.Unmarshal([]byte(agentd(t, append(list, "-o", "json")...).ok(t).stdout), &none); err != nil || none == nil || len(none) > 0 {
				t.Errorf("as JSON %v, %v", none, err)
			}
		})
	}
}

func TestBusyFilePutsAnUpgradeOffUnlessItIsForced(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("1.0.0", "1.1.0")
	busy := writeFile(t, "counting the stock\nuntil noon\n")
	s.startForGood("--probation", "300ms", "--busy-file", busy)
	s.upgrade("1.1.0", "--wait", "2s").fails(t, 1, "1.1.0", "the order stands")
	says := []string{"waits: the host program is busy: counting the stock"}
	shows(t, says, "fleet", "--etcd", s.etcd.URL())
	shows(t, append(says, "at the latest"), "status", "--state-dir", s.state)
	if i := s.mustInfo(); i.Version != "1.0.0" {
		t.Fatalf("a busy agent was upgraded to %s", i.Version)
	}
	// It takes the place of the one that waits.
	operate(t, "upgrade", s.ways()["on its own host"], "--repo", s.repo, "--trust", s.trust, "--force", "1.1.0").ok(t)
	// Without the file the next does not wait; with it, it does until then.
	done := make(chan result, 1)
	go func() { done <- operate(t, "rollback", s.ways()["on its own host"]) }()
	shows(t, says, "status", "--state-dir", s.state)
	remove(t, busy)
	if r := (<-done).ok(t); !strings.Contains(r.stdout, "busy: counting the stock") || !strings.Contains(r.stdout, "committed: 1.0.0 runs") {
		t.Errorf("the progress is\n%s", r.stdout)
	}
}

func TestStaleCommandIsRefusedWithWhatWasFound(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("1.0.0", "1.1.0")
	pid := s.startForGood().cmd.Process.Pid
	for name, way := range s.ways() {
		t.Run(name, func(t *testing.T) {
			args := []string{"--repo", s.repo, "--trust", s.trust, "--expect", "0.9.0", "1.1.0"}
			operate(t, "upgrade", way, args...).fails(t, 1, "expects 0.9.0 to run", "1.0.0 was found")
			s.unchanged(t, pid)
		})
	}
	s.upgrade("1.1.0", "--expect", "any").ok(t)
}
