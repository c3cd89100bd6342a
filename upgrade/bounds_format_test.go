package upgrade

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

// The golden files of what a rollout asks of a host, as the first release that has
// them wrote them.

func TestWhatARolloutAsksOfAHostIsReadAndWrittenAsEver(t *testing.T) {
	at := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	pin := func(version, digit string) release.Pin {
		return release.Pin{Version: version, Digest: "sha256:" + strings.Repeat(digit, 32)}
	}
	ref := func(version, digit string) Ref {
		return Ref{Version: version, Manifest: pin(version, digit).Digest, Binary: strings.Repeat("ab", 32)}
	}
	for name, r := range map[string]Request{
		"request-1-bounds.json": {
			ID: "r1.1", By: "fleet", Action: ActionUpgrade, Pin: pin("1.1.0", "cd"),
			Probation: 10 * time.Minute, GiveUp: 15 * time.Minute, Retain: 72 * time.Hour,
		},
		"request-1-stage.json":  {ID: "r1.1", By: "fleet", Action: ActionStage, Pin: pin("1.1.0", "cd"), Retain: 24 * time.Hour},
		"request-1-revert.json": {ID: "r1.2", By: "fleet", Action: ActionRevert, Leave: pin("1.1.0", "cd"), Pin: pin("1.0.0", "ef")},
	} {
		mustBeWrittenAs(t, name, asked{askedSchema, r, at})
		read, err := readAsked(stateOf(t, map[string]string{askedFile: name}))
		if err != nil || *read != r {
			t.Errorf("%s: %+v, %v", name, read, err)
		}
	}
	a := Attempt{
		Schema: 1, OrderID: "r1.1", By: "fleet", Action: ActionUpgrade, State: RolledBack, From: ref("1.0.0", "ef"), To: ref("1.1.0", "cd"),
		Probation: 10 * time.Minute, Retain: 72 * time.Hour, GiveUp: at.Add(15 * time.Minute), RecalledBy: "r1.2",
		Reason: "revert was asked for in its probation by fleet", Started: at, Updated: at.Add(time.Minute),
	}
	mustBeWrittenAs(t, "journal-1-recalled.json", a)
	read, err := readJournal(filepath.Join(stateOf(t, map[string]string{journalFile: "journal-1-recalled.json"}), journalFile))
	if err != nil || read.RecalledBy != "r1.2" || read.Probation != a.Probation || read.Retain != a.Retain || !read.GiveUp.Equal(a.GiveUp) {
		t.Errorf("journal: %+v, %v", read, err)
	}
	a.State, a.RecalledBy, a.Unbegun, a.Reason = Failed, "", UnbegunRetracted, errRetracted.Error()
	mustBeWrittenAs(t, "journal-1-retracted.json", a)
	read, err = readJournal(filepath.Join(stateOf(t, map[string]string{journalFile: "journal-1-retracted.json"}), journalFile))
	if err != nil || read.Unbegun != UnbegunRetracted {
		t.Errorf("journal: %+v, %v", read, err)
	}
	staged := Slot{
		Schema: slotSchema, Ref: ref("1.1.0", "cd"), Created: at, Proven: at, Retired: at.Add(time.Hour), Keep: at.Add(72 * time.Hour),
		Staged: &Staging{At: at, Until: at.Add(24 * time.Hour), Offered: at.Add(12 * time.Hour)},
	}
	mustBeWrittenAs(t, "slot-1-staged.json", staged)
	var slot Slot
	if err := json.Unmarshal(golden(t, "slot-1-staged.json"), &slot); err != nil || slot.Staged == nil || *slot.Staged != *staged.Staged || !slot.Keep.Equal(staged.Keep) {
		t.Errorf("slot: %+v, %v", slot, err)
	}
}

func mustBeWrittenAs(t *testing.T, name string, v any) {
	t.Helper()
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if data = append(data, '\n'); !bytes.Equal(data, golden(t, name)) {
		t.Errorf("%s is now written as\n%s\nwant\n%s", name, data, golden(t, name))
	}
}
