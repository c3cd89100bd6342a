package upgrade

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/release"
)

// tellsKey waits until the status tells that the key of what runs is revoked, an
// empty id for that it is not.
func (r *rig) tellsKey(version, id string) {
	r.Helper()
	waittest.Nil(r, fmt.Sprintf("the status of %s tells of the revoked key %q", version, id), func() error {
		var s Status
		if err := r.get("/status", &s); err != nil {
			return err
		}
		if s.Running.Version != version || s.Provenance == nil {
			return fmt.Errorf("%s runs, from %+v", s.Running.Version, s.Provenance)
		}
		key := s.Provenance.Revoked
		if (key != nil) != (id != "") || key != nil && (key.ID != id || key.Reason != "stolen") {
			return fmt.Errorf("it tells %+v", key)
		}
		return nil
	})
}

func TestRevokedKeyOfWhatRunsIsToldByTheRunningAgent(t *testing.T) {
	t.Parallel()
	r := newWatchingRig(t)
	k := newKeyholder(t, r)
	publicA, keyA := newKey(t)
	publicB, keyB := newKey(t)
	k.add(publicA)
	k.roll()
	r.first(build{Version: "1.0.0"})
	k.signWith(keyA)
	r.commits(build{Version: "1.1.0"})
	r.tellsKey("1.1.0", "")
	k.add(publicB)
	id := release.KeyID(publicA)
	if err := k.ring.Revoke(id, "stolen", time.Now()); err != nil {
		t.Fatal(err)
	}
	// The index is still by the key, so that it is refused from now on.
	k.roll()
	r.tellsKey("1.1.0", id)
	r.stop()
	r.awaitFree()
	cur, err := slots{r.env.StateDir}.current()
	if err != nil {
		t.Fatal(err)
	}
	r.start(filepath.Join(cur.dir, binaryName))
	r.tellsKey("1.1.0", id)
	k.signWith(keyB, publicA)
	r.commits(build{Version: "1.2.0"})
	r.tellsKey("1.2.0", "")

	// It is told, and decides nothing: a rollback there is made and says so.
	says := "the key that signed it, " + id + ", was revoked since"
	r.request(Request{ID: "back", Action: ActionRollback, Pin: release.Pin{Version: "1.1.0"}})
	if s := r.ends("back"); s.State != Committed || !strings.Contains(s.AllowedBy, says) {
		t.Errorf("%s: %s, allowed by %q", s.State, s.Reason, s.AllowedBy)
	}
	r.tellsKey("1.1.0", id)
	r.request(Request{ID: "forth", Action: ActionRollback})
	if s := r.ends("forth"); s.State != Committed || strings.Contains(s.AllowedBy, "revoked") {
		t.Errorf("%s: %s, allowed by %q", s.State, s.Reason, s.AllowedBy)
	}
	r.tellsKey("1.2.0", "")
	r.stop()
	r.awaitFree()
	if a, err := RollBack(r.env.StateDir, Request{}); err != nil || a.From.Version != "1.1.0" || !strings.Contains(a.AllowedBy, says) {
		t.Errorf("while no agent runs: %+v, %v", a, err)
	}
}
