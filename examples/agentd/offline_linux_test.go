package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/upgrade"
)

// TestRollbackWithoutItsAgentAnswersWhereItLeads: a script must not read success
// as the rollback of what it asked for.
func TestRollbackWithoutItsAgentAnswersWhereItLeads(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("1.0.0", "1.1.0")
	p := s.startForGood("--probation", "300ms")
	local := s.ways()["on its own host"]
	operate(t, "upgrade", local, "--repo", s.repo, "--trust", s.trust, "1.1.0").ok(t)
	p.stop()
	answer := func(args ...string) (a upgrade.Status, progress string) {
		t.Helper()
		r := operate(t, "rollback", local, append(args, "-o", "json")...).ok(t)
		if err := json.Unmarshal([]byte(r.stdout), &a); err != nil {
			t.Fatal(err)
		}
		return a, r.stderr
	}
	a, said := answer("--by", "pager")
	if a.State != upgrade.Committed || a.From.Version != "1.1.0" || a.To.Version != "1.0.0" || a.Running.Version != "1.0.0" || a.By != "pager" || a.Abandoned ||
		!strings.Contains(a.Reason, "1.0.0 boots at the next start") || !strings.Contains(said, "allowed by: retained on this host") {
		t.Errorf("%+v\n%s", a, said)
	}
	// The record is as ever.
	r, err := upgrade.Inspect(s.state)
	if err != nil || r.Journal.State != upgrade.RolledBack || r.Journal.To.Version != "1.1.0" || !r.Journal.Abandoned {
		t.Errorf("%+v, %v", r.Journal, err)
	}
	a, said = answer("1.0.0")
	if a.State != upgrade.Committed || a.To.Version != "1.0.0" || !strings.Contains(said, "nothing to do: 1.0.0 is current already") || strings.Contains(said, "boots at the next start") {
		t.Errorf("%+v\n%s", a, said)
	}
}
