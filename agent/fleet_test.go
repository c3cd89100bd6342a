package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestFleetInOneLookCountsAllAndNamesTheWorst: of 10,000 agents nobody reads a
// list.
func TestFleetInOneLookCountsAllAndNamesTheWorst(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	const n = fleetPage + 250
	var pairs []string
	status := encoded(t, Status{Schema: schema, At: time.Now(), Every: 60, Tree: &Node{}})
	for i := range n {
		own := status
		switch {
		case i == n-1: // on the last page, and the worst
			own = encoded(t, Status{Schema: schema, At: time.Now(), Tree: &Node{Severity: SeverityCritical, Children: []Node{{Name: "plugins", Severity: SeverityCritical, State: "down"}}}})
		case i == 7:
			own = encoded(t, Status{Schema: schema, At: time.Now().Add(-time.Hour), Tree: &Node{}})
		case i == 8:
			own = "junk"
		case i > 9 && i < 50:
			own = encoded(t, Status{Schema: schema, At: time.Now(), Tree: &Node{Severity: SeverityWarning, Children: []Node{{Name: "config", Severity: SeverityWarning, State: "odd"}}}})
		}
		pairs = append(pairs, "registry/"+crowdID(i), registered(t, i, fmt.Sprintf("1.0.%d", i%(2*maxCounted))), "status/"+crowdID(i), own)
		if len(pairs) > 100 || i == n-1 {
			c.put(pairs...)
			pairs = nil
		}
	}
	pages := 0
	f, err := c.dir.Fleet(t.Context(), FleetOptions{Worst: 5, Progress: func(int) { pages++ }})
	if err != nil || f.Agents != n || f.Partial || pages < 2 || f.Revision == 0 {
		t.Fatalf("%d agents in %d pages, partial: %t, %v", f.Agents, pages, f.Partial, err)
	}
	if len(f.Worst) != 5 || f.Worst[0].ID != crowdID(n-1) || f.Worst[0].Worst != "plugins down" || f.Worst[1].ID != crowdID(7) || f.Worst[2].ID != crowdID(8) || f.Worst[3].Worst != "config odd" {
		t.Errorf("the worst: %+v", f.Worst)
	}
	if f.OverdueCount != 1 || f.Overdue[0].ID != crowdID(7) || f.Overdue[0].Age < 3500 || f.SilentCount != 1 || f.Silent[0].ID != crowdID(8) {
		t.Errorf("overdue %d %+v, silent %d %+v", f.OverdueCount, f.Overdue, f.SilentCount, f.Silent)
	}
	if s := f.By[BySeverity]; s["critical"] != 1 || s["unknown"] != 2 || s["warning"] != 40 || s["ok"] != n-43 || f.By[ByState]["running"] != n {
		t.Errorf("counts: %v", f.By)
	}
	rest := f.Others[ByVersion]
	for _, v := range f.By[ByVersion] {
		rest += v
	}
	if len(f.By[ByVersion]) != maxCounted || rest != n {
		t.Errorf("%d versions by name, %d agents counted, want %d and %d", len(f.By[ByVersion]), rest, maxCounted, n)
	}
	if data, err := json.Marshal(f); err != nil || len(data) > 16<<10 {
		t.Errorf("one look takes %d bytes, %v", len(data), err)
	}
	x := c.index(IndexConfig{})
	c.ready(x)
	if s := x.Snapshot().Fleet(FleetOptions{}); s.Agents != n || s.OverdueCount != 1 || s.Worst[0].ID != crowdID(n-1) {
		t.Errorf("the snapshot's fleet: %+v", s)
	}

	// Its end in the middle is told, with what was read.
	ctx, stop := context.WithCancel(t.Context())
	f, err = c.dir.Fleet(ctx, FleetOptions{Progress: func(int) { stop() }})
	if err == nil || !f.Partial || f.Agents != fleetPage || len(f.Worst) == 0 || !strings.Contains(err.Error(), fmt.Sprint(fleetPage)) {
		t.Errorf("%d agents, partial: %t, %v", f.Agents, f.Partial, err)
	}
}

// TestFleetInOneLookIsBoundedWhateverAgentsTell: each of 10,000 may say what none
// of the others does, and at length.
func TestFleetInOneLookIsBoundedWhateverAgentsTell(t *testing.T) {
	f := newFleetOf(FleetOptions{}, time.Now())
	const n = maxCounting + 50
	long := strings.Repeat("x", 10_000)
	for i := range n {
		f.add(&Entry{Registration: Registration{ID: crowdID(i), Version: fmt.Sprint(i, long)}, Error: long})
	}
	if most := len(f.By[ByVersion]); most > maxCounting {
		t.Errorf("%d versions are told apart", most)
	}
	f.finish(false)
	counted := f.Others[ByVersion]
	for _, v := range f.By[ByVersion] {
		counted += v
	}
	if counted != n || len(f.By[ByVersion]) != maxCounted {
		t.Errorf("%d agents are counted by %d versions, want %d and %d", counted, len(f.By[ByVersion]), n, maxCounted)
	}
	if data, err := json.Marshal(f); err != nil || len(data) > 128<<10 {
		t.Errorf("one look takes %d bytes, %v", len(data), err)
	}
}

// TestStandingOfAnOverdueAgentDoesNotMove: who watches a fleet would be shown it
// every second.
func TestStandingOfAnOverdueAgentDoesNotMove(t *testing.T) {
	now := time.Date(2026, 11, 26, 10, 1, 0, 0, time.UTC)
	e := Entry{Status: &Status{At: now.Add(-time.Hour), Tree: &Node{}}}
	severity, worst := e.Standing(now)
	if _, later := e.Standing(now.Add(time.Second)); severity != SeverityUnknown || worst != later || !strings.Contains(worst, "2026-11-26 09:01:00") {
		t.Errorf("%s: %q, a second later %q", severity, worst, later)
	}
}
