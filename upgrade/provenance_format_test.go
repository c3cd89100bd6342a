package upgrade

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

const rule = "newer than 1.0.0, same major version; requires.upgrade >=1.0.0 holds for 1.0.0"

func TestRecordsOfWhatLetAReleaseInAreReadAndWrittenAsEver(t *testing.T) {
	state := stateOf(t, map[string]string{journalFile: "journal-1-allowed.json", askedFile: "request-1-asked.json"})
	a, err := readJournal(filepath.Join(state, journalFile))
	if err != nil || a.AllowedBy != rule || a.Asked != "^1.0.0" {
		t.Errorf("journal: %+v, %v", a, err)
	}
	r, err := readAsked(state)
	if err != nil || r.Asked != "^1.0.0" || r.Pin.Version != "1.1.0" {
		t.Errorf("request: %+v, %v", r, err)
	}
	var slot Slot
	if err := json.Unmarshal(golden(t, "slot-1-allowed.json"), &slot); err != nil || slot.AllowedBy != rule || slot.By != "operator@host" {
		t.Errorf("slot: %+v, %v", slot, err)
	}
	for name, v := range map[string]any{
		"journal-1-allowed.json": a, "slot-1-allowed.json": slot,
		"request-1-asked.json": asked{askedSchema, *r, time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)},
	} {
		data, err := json.MarshalIndent(v, "", "  ")
		if err != nil || !bytes.Equal(append(data, '\n'), golden(t, name)) {
			t.Errorf("%s is now written as\n%s (%v)", name, data, err)
		}
	}
}

// TestFloatingNameIsRefusedAtEveryEntry: a name that means another release
// tomorrow must not get as far as a file or an order.
func TestFloatingNameIsRefusedAtEveryEntry(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	for _, name := range []string{"latest", "stable", "v1", "1.2", "1.x", "^1.2.0", ">=1.2, <2", "v1.2.0", "main"} {
		for entry, err := range map[string]error{
			"upgrade":              Request{Pin: release.Pin{Version: name, Digest: digest}}.Validate(),
			"upgrade, no digest":   Request{Pin: release.Pin{Version: name}}.Validate(),
			"rollback":             Request{Action: ActionRollback, Pin: release.Pin{Version: name}}.Validate(),
			"rollback with digest": Request{Action: ActionRollback, Pin: release.Pin{Version: name, Digest: digest}}.Validate(),
			"clear-quarantine":     Request{Action: ActionClear, Pin: release.Pin{Version: name}}.Validate(),
			"expect":               Request{Action: ActionHold, Expect: name}.Validate(),
			"Ask":                  second(Ask(t.TempDir(), Request{Pin: release.Pin{Version: name, Digest: digest}})),
			"RollBack":             second(RollBack(t.TempDir(), Request{Pin: release.Pin{Version: name}})),
			"ClearQuarantine":      second(ClearQuarantine(t.TempDir(), release.Pin{Version: name})),
			"New":                  second(New(Config{StateDir: "x", Name: "demo", Version: name})),
		} {
			if !errors.Is(err, release.ErrFloatingTag) || !strings.Contains(err.Error(), "write") {
				t.Errorf("%s of %q: %v; want ErrFloatingTag that says what to write", entry, name, err)
			}
		}
	}
	for _, expect := range []string{"", "1.2.0", "1.2.0-rc.1+b", "1.2.0@" + digest} {
		if err := (Request{Action: ActionHold, Expect: expect}).Validate(); err != nil {
			t.Errorf("expect %q: %v", expect, err)
		}
	}
	if err := (Request{Action: ActionHold, Expect: "1.2.0@sha256:ab"}).Validate(); err == nil {
		t.Error("an expectation with half a digest passes")
	}
	if err := (Request{Action: ActionHold, Asked: strings.Repeat("x", 2000)}).Validate(); err == nil {
		t.Error("an endless range is taken down")
	}
}

func second[T any](_ T, err error) error { return err }

func TestReleaseCountsAsWithdrawnByItsDigestAndElseByItsVersion(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	x := &release.Index{Releases: []release.IndexEntry{
		{Version: "1.0.0", Manifest: digest, Yanked: "loses records"},
		{Version: "1.1.0", Manifest: strings.Repeat("cd", 32)},
	}}
	for want, refs := range map[string][]Ref{
		"loses records": {{Version: "1.0.0", Manifest: "sha256:" + digest}, {Version: "1.0.0"}},
		"":              {{Version: "1.0.0", Manifest: "sha256:" + strings.Repeat("cd", 32)}, {Version: "1.1.0"}, {Version: "9.9.9"}},
	} {
		for _, r := range refs {
			if got, _ := withdrawn(x, r); got != want {
				t.Errorf("%s: %q, want %q", r.Pinned(), got, want)
			}
		}
	}
}
