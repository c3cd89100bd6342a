package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/upgrade"
)

func TestStatusShowsWhatCanBeReadBesideWhatCannot(t *testing.T) {
	s := newSite(t)
	s.startForGood().stop()
	for _, name := range []string{"hold.json", "quarantine.json", "request.json"} {
		if err := os.WriteFile(filepath.Join(s.state, name), []byte(`{"schema":9}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	way := s.ways()["on its own host"]
	r := operate(t, "status", way)
	r.fails(t, 1, "hold", "quarantine", "request")
	for _, want := range []string{
		"Current, which boots next: 1.0.0-", "Journal: no upgrade was ever asked for.",
		"Hold: cannot be read: ", "remove the file to end the hold",
		"Quarantine: cannot be read: ", "Waiting: cannot be read: ", "has schema 9",
	} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("status does not say %q:\n%s", want, r.stdout)
		}
	}
	var report upgrade.Report
	r = operate(t, "status", way, "-o", "json")
	r.fails(t, 1, "hold")
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || report.Current == "" || len(report.Unreadable) != 3 || !strings.Contains(report.Unreadable[upgrade.DocumentHold], "schema 9") {
		t.Errorf("%v in %s", err, r.stdout)
	}
	// What a command is about must be there.
	operate(t, "hold show", way).fails(t, 1, "hold.json has schema 9")
	operate(t, "quarantine list", way).fails(t, 1, "quarantine.json has schema 9")
	operate(t, "rollback", way).fails(t, 1, "host is held")
	if err := os.WriteFile(filepath.Join(s.state, "journal.json"), []byte(`{`), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := operate(t, "status", way); r.code != 1 || !strings.Contains(r.stdout, "Journal: cannot be read: journal.json is not a journal") {
		t.Errorf("of a journal that cannot be read status says, with code %d,\n%s", r.code, r.stdout)
	}
	// The way out that the sentence names.
	if r := operate(t, "hold clear", way, "-o", "json").ok(t); r.stdout != "null\n" {
		t.Errorf("hold clear -o json prints %s", r.stdout)
	}
	var held upgrade.Hold
	if r := operate(t, "hold set", way, "--reason", "audit", "--by", "ops", "-o", "json").ok(t); json.Unmarshal([]byte(r.stdout), &held) != nil || held.By != "ops" || held.Reason != "audit" {
		t.Errorf("hold set -o json prints %s", r.stdout)
	}
}

func TestStatusOfAStoppedAgentDoesNotSayThatAnAttemptGoesOn(t *testing.T) {
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	a := upgrade.Attempt{
		State: upgrade.Probation, OrderID: "o1", From: upgrade.Ref{Version: "1.0.0"}, To: upgrade.Ref{Version: "1.1.0"},
		Started: at, Updated: at, Deadline: at.Add(time.Minute),
	}
	if text := describeAttempt(a, false); !strings.Contains(text, "was last recorded as probation at 2030-01-01T00:00:00Z; no agent runs") || strings.Contains(text, "until") {
		t.Errorf("stopped: %s", text)
	}
	if text := describeAttempt(a, true); !strings.Contains(text, "is probation since 2030-01-01T00:00:00Z, until 2030-01-01T00:01:00Z") {
		t.Errorf("running: %s", text)
	}
	a.State, a.Deadline = upgrade.Committed, time.Time{}
	if text := describeAttempt(a, false); !strings.Contains(text, "is committed since") {
		t.Errorf("ended: %s", text)
	}
}

func TestProgressOfAnAgentThatBreaksLinesStaysOnOne(t *testing.T) {
	var out strings.Builder
	p := ticker{w: &out}
	p.show(upgrade.Status{Attempt: upgrade.Attempt{State: upgrade.Staged, Reason: "waits: counting\nthe stock\x1b[2J\r", Log: []string{"a\x07b"}}})
	if text := out.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "staged: waits: counting; the stock\ufffd[2J\n") || !strings.Contains(text, "| a\ufffdb\n") {
		t.Errorf("the progress is %q", text)
	}
}
