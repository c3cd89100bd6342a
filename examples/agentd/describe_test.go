package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/upgrade"
)

const told = `{
 "schema":1, "state_dir":"/var/lib/agentd", "running":true, "current":"1.0.0-000000000000",
 "slots":[{"schema":1,"version":"1.0.0","binary":"0000000000000000"}],
 "journal":{"schema":1,"order_id":"o1","by":"ops","action":"rollback","state":"staged","from":{"version":"1.1.0"},"to":{"version":"1.0.0"},
  "reason":"waits: the host program is busy: counting","deadline":"2030-01-01T01:00:00Z"},
 "quarantine":[
  {"version":"1.2.0","class":"binary","reason":"crashed","attempts":1},
  {"version":"1.3.0","class":"environment","reason":"disk","attempts":2,"until":"2030-01-01T00:30:00Z"},
  {"version":"1.4.0","class":"environment","reason":"disk","attempts":3,"until":"2029-12-31T23:30:00Z"}],
 "hold":{"schema":1,"by":"ops","reason":"audit","since":"2029-12-31T20:00:00Z"},
 "retained":[{"version":"0.9.0"},{"version":"0.8.0"}],
 "request":{"id":"o2","action":"rollback","by":"pager"},
 "cold_starts":{"slot":"1.0.0-000000000000","starts":2,"since":"2029-12-31T23:00:00Z"}
}`

func TestStatusTellsWhatKeepsAnUpgradeFromHappening(t *testing.T) {
	var r upgrade.Report
	if err := json.Unmarshal([]byte(told), &r); err != nil {
		t.Fatal(err)
	}
	r.Slots = nil // their names need whole digests
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	text := describeState(r, now)
	for _, want := range []string{
		"Cold starts of 1.0.0-000000000000 without health: 2 since 2029-12-31T23:00:00Z",
		"A rollback can go to: 0.9.0, 0.8.0.",
		"the rollback from 1.1.0 to 1.0.0, asked for by ops (order o1)", "is staged", "busy: counting, until 2030-01-01T01:00:00Z at the latest",
		"Waiting: the rollback to the release before, asked for by pager (order o2).",
		"Hold: held by ops since 2029-12-31T20:00:00Z: audit.",
		"1.2.0 (-): class: binary; failures: 1; refused until it is cleared: crashed",
		"1.3.0 (-): class: environment; failures: 2; refused until 2030-01-01T00:30:00Z: disk",
		"1.4.0 (-): class: environment; failures: 3; refused no more, expired 2029-12-31T23:30:00Z: disk",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("status does not say %q:\n%s", want, text)
		}
	}
	guard := upgrade.Attempt{By: upgrade.ByBootGuard, State: upgrade.RolledBack, From: upgrade.Ref{Version: "1.0.0"}, To: upgrade.Ref{Version: "1.1.0"}, Reason: "given up"}
	if text := describeAttempt(guard, true); !strings.Contains(text, "the boot guard went back from 1.1.0 to 1.0.0") {
		t.Errorf("of a release that was given up status says %q", text)
	}
}

func TestFleetShowsHowTheLastAttemptEndedAndNotesWhoIsHeld(t *testing.T) {
	now := time.Now()
	for s, want := range map[string]struct{ upgrades, notes string }{
		`{"hold":{"by":"ops","reason":"audit\nof may","since":"2030-01-01T00:00:00Z"},"state":"rolled_back","to":{"version":"1.1.0"},"reason":"sick"}`: {
			"1.1.0 rolled_back", "held by ops since 2030-01-01T00:00:00Z: audit; of may; release 1.1.0: sick"},
		`{"state":"staged","action":"rollback","to":{"version":"1.0.0"},"reason":"waits: busy"}`:                                        {"back to 1.0.0 staged", "waits: busy"},
		`{"state":"rolled_back","by":"boot guard","action":"rollback","to":{"version":"1.1.0"}}`:                                        {"gave up 1.1.0", "the boot guard went back from 1.1.0"},
		`{"state":"rolled_back","abandoned":true,"action":"rollback","to":{"version":"1.1.0"},"from":{"version":"1.0.0"},"reason":"x"}`: {"1.1.0 left by hand", "-"},
		`{"state":"idle"}`: {"-", "-"},
	} {
		var st agent.Status
		if err := json.Unmarshal([]byte(`{"upgrade":`+s+`}`), &st); err != nil {
			t.Fatal(err)
		}
		if got := upgradesOf(&st); got != want.upgrades {
			t.Errorf("fleet shows %q, want %q", got, want.upgrades)
		}
		if got := notesOf(&agent.Entry{Status: &st}, now); got != want.notes {
			t.Errorf("fleet notes %q, want %q", got, want.notes)
		}
	}
	e := agent.Entry{Status: &agent.Status{Upgrade: upgrade.Status{LastFailed: &upgrade.Quarantined{
		Ref: upgrade.Ref{Version: "1.1.0"}, Class: upgrade.BadEnvironment, Reason: "disk", Until: now.Add(-time.Minute),
	}}}}
	if got := notesOf(&e, now); !strings.HasPrefix(got, "release 1.1.0 (environment, no more, expired ") {
		t.Errorf("of a failure that has expired fleet shows %q", got)
	}
}

func TestProgressTellsThatAnAttemptWaitsAlsoAfterItWasStaged(t *testing.T) {
	var out strings.Builder
	p := ticker{w: &out}
	for _, why := range []string{"", "", "waits: busy", "waits: busy"} {
		p.show(upgrade.Status{Attempt: upgrade.Attempt{State: upgrade.Staged, Reason: why}})
	}
	if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); len(lines) != 2 || !strings.HasSuffix(lines[1], "staged: waits: busy") {
		t.Errorf("the progress is %q", lines)
	}
}
