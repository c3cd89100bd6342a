package upgrade

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/release"
)

// comesFrom waits until what runs is version and tells its rollback, none for
// an empty from.
func (r *rig) comesFrom(version, from, by string) {
	r.Helper()
	waittest.Nil(r, version+" tells what it runs by", func() error {
		var s Status
		if err := r.get("/status", &s); err != nil {
			return err
		}
		if s.Running.Version != version || s.Provenance == nil {
			return fmt.Errorf("%s runs", s.Running.Version)
		}
		c := s.Provenance.Rollback
		if (c != nil) != (from != "") || c != nil && (c.From != from || c.By != by || c.At.IsZero()) {
			return fmt.Errorf("it tells %+v, want one from %q by %q", c, from, by)
		}
		return nil
	})
}

func TestReleaseThatRunsByARollbackTellsWhoAskedAndWhatBroughtItAtFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	r.request(Request{ID: "1", Pin: r.publish(build{Version: "1.1.0"}), By: "ops"})
	r.ends("1")
	r.serves("1.1.0")
	r.comesFrom("1.1.0", "", "")
	two := r.upgraded("1.2.0")
	r.request(Request{ID: "2", Action: ActionRollback, By: "pager"})
	r.ends("2")
	r.comesFrom("1.1.0", "1.2.0", "pager")
	// What is refused after it changes nothing.
	r.request(Request{ID: "3", Pin: release.Pin{Version: "9.0.0", Digest: two.Digest}, By: "other"})
	if s := r.ends("3"); s.State != Failed || s.Provenance.By != "ops" || s.Provenance.AllowedBy == "" || s.Provenance.Rollback.OrderID != "2" || s.Provenance.Rollback.AllowedBy == "" {
		t.Errorf("%+v", s.Provenance)
	}
	r.request(Request{ID: "4", Pin: two, By: "ops"})
	r.ends("4")
	r.comesFrom("1.2.0", "", "")
	r.stop()
	r.awaitFree()
	if _, err := RollBack(r.env.StateDir, Request{By: "night"}); err != nil {
		t.Fatal(err)
	}
	report, err := Inspect(r.env.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	if c := report.Provenance[report.Current].Rollback; c == nil || c.By != "night" || c.From != "1.2.0" || !strings.HasPrefix(report.Current, "1.1.0-") {
		t.Errorf("%s tells %+v", report.Current, c)
	}
}

func TestSlotOfARollbackIsReadAndWrittenAsEver(t *testing.T) {
	var slot Slot
	at := time.Date(2030, 1, 3, 3, 4, 5, 0, time.UTC)
	if err := json.Unmarshal(golden(t, "slot-1-rollback.json"), &slot); err != nil || slot.Rollback == nil ||
		*slot.Rollback != (Comeback{From: "1.2.0", By: "pager@host", OrderID: "order-9", AllowedBy: "retained on this host and asked for by an operator", At: at}) {
		t.Fatalf("%+v, %v", slot.Rollback, err)
	}
	data, err := json.MarshalIndent(slot, "", "  ")
	if err != nil || !bytes.Equal(append(data, '\n'), golden(t, "slot-1-rollback.json")) {
		t.Errorf("now written as\n%s (%v)", data, err)
	}
}

func TestRollbackThatIsTakenBackAtItsCommitIsToldOfNoRelease(t *testing.T) {
	t.Parallel()
	r := prepareRig(t, 100*time.Millisecond, nil)
	r.env.Failpoints = map[string]string{"1.2.0": "commit-before-current=error"}
	r.first(build{Version: "1.0.0"})
	r.upgraded("1.1.0")
	r.upgraded("1.2.0")
	r.request(Request{ID: "back", Action: ActionRollback, By: "pager"})
	if s := r.ends("back"); s.State != RolledBack {
		t.Fatalf("%s: %s", s.State, s.Reason)
	}
	report, err := Inspect(r.env.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range report.Provenance {
		if p.Rollback != nil {
			t.Errorf("%s tells %+v", name, p.Rollback)
		}
	}
}
