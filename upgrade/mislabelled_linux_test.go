package upgrade

import (
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

// TestMislabelledReleaseDoesNotTakeTheGoodOneAway: whoever signs a file anew as
// another version must not cost every host that tries it the release it knows.
func TestMislabelledReleaseDoesNotTakeTheGoodOneAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100*time.Millisecond, nil)
	file := makeBinary(t, build{Version: "1.2.0"})
	good := r.publishFile("1.2.0", file)
	wrong := r.publishFile("1.2.4", file)
	r.serves("1.0.0")
	r.awaitAdopted()
	says := "the release is signed as 1.2.4, its executable says 1.2.0"
	mislabelled := func(id string) {
		t.Helper()
		r.request(Request{ID: id, Pin: wrong})
		if s := r.ends(id); !strings.Contains(s.Reason, says) {
			t.Fatalf("%s: %s: %s", id, s.State, s.Reason)
		}
	}
	done := func(id string, q Request) {
		t.Helper()
		q.ID = id
		r.request(q)
		if s := r.ends(id); s.State != Committed {
			t.Fatalf("%s: %s: %s", id, s.State, s.Reason)
		}
	}
	mislabelled("before the good one was tried")
	done("upgrade", Request{Pin: good})
	done("away", Request{Action: ActionRollback})
	mislabelled("again") // refused, and starts nothing
	if s := r.ends("again"); s.State != Failed || len(s.Retained) != 1 || s.Retained[0].Manifest != good.Digest {
		t.Errorf("%s, retained %+v: want it refused, and 1.2.0 kept", s.State, s.Retained)
	}
	done("back", Request{Action: ActionRollback, Pin: release.Pin{Version: "1.2.0"}})
	done("away again", Request{Action: ActionRollback})
	done("anew", Request{Pin: good})
}

func TestProvenReleaseIsKeptOutByItsOwnFailuresOnly(t *testing.T) {
	dir := t.TempDir()
	s := slots{dir}
	now := time.Now()
	proven, other := makeSlot(t, s, "1.2.0"), makeSlot(t, s, "1.3.0")
	if err := s.prove(proven, now, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.prove(other, now, 0); err != nil {
		t.Fatal(err)
	}
	unproven := makeSlot(t, s, "1.4.0")
	q := quarantine{dir}
	for name, c := range map[string]struct {
		failed, asked Ref
		out           bool
	}{
		"the same bytes under another manifest": {Ref{Version: "1.2.4", Manifest: "sha256:b", Binary: proven.Ref.Binary}, proven.Ref, false},
		"itself":                                {proven.Ref, proven.Ref, true},
		"itself, signed anew":                   {proven.Ref, Ref{Version: "1.2.0", Manifest: "sha256:c", Binary: proven.Ref.Binary}, true},
		"a third label of what failed":          {Ref{Version: "1.2.4", Manifest: "sha256:b", Binary: proven.Ref.Binary}, Ref{Version: "1.2.5", Manifest: "sha256:d", Binary: proven.Ref.Binary}, true},
		"one that never passed":                 {Ref{Version: "1.4.1", Manifest: "sha256:b", Binary: unproven.Ref.Binary}, unproven.Ref, true},
	} {
		if err := q.add(c.failed, BadBinary, "failed", now); err != nil {
			t.Fatal(err)
		}
		if err := q.check(c.asked, now); (err != nil) != c.out {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := q.clear(release.Pin{}); err != nil {
			t.Fatal(err)
		}
	}
	// The boot guard's choice goes by the same.
	if err := q.add(Ref{Version: "1.2.4", Manifest: "sha256:b", Binary: proven.Ref.Binary}, BadBinary, "failed", now); err != nil {
		t.Fatal(err)
	}
	u := &Upgrader{slots: s, quarantine: q}
	if next, err := u.fallback(choice{slot: other}, ""); err != nil || next.slot.Version != "1.2.0" {
		t.Errorf("given up for %+v, %v", next.slot.Ref, err)
	}
}
