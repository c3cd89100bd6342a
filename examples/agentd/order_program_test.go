package main

import (
	"path/filepath"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
)

func TestReleaseOfAnotherProgramIsNotOrderedAndRefusedByTheAgentWithBothNames(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("1.0.0")
	other := filepath.Join(s.dir, "other")
	agentd(t, "release", "build", "--plain", "--key", s.key, "--repo", other, "--name", "logger", "--version", "1.1.0", binary(t, "1.1.0")).ok(t)
	pid := s.startForGood().cmd.Process.Pid
	waittest.Until(t, "the status is in the registry", func() bool { e := s.fleet(); return e.Status != nil && e.Status.Upgrade.Program == "agentd" })
	s.upgrade("1.1.0", "--repo", other, "--name", "logger").fails(t, 1, "release 1.1.0 is of logger", "a1 runs agentd", "nothing was ordered", "--name agentd")
	if id := s.fleet().Status.Upgrade.OrderID; id != "" {
		t.Errorf("order %s was given", id)
	}
	// The state directory does not tell the name, so that the agent is asked.
	operate(t, "upgrade", s.ways()["on its own host"], "--repo", other, "--trust", s.trust, "--name", "logger", "1.1.0").
		fails(t, 1, "the order is for release 1.1.0 of \"logger\"", "this host runs \"agentd\"")
	s.unchanged(t, pid)
	// It goes on taking those of its own.
	s.release("1.1.0")
	s.upgrade("1.1.0").ok(t)
}
