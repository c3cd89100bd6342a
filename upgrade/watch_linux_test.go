package upgrade

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/release"
)

// newWatchingRig is a rig whose agent looks at the index all the time.
func newWatchingRig(t *testing.T) *rig {
	t.Helper()
	r := prepareRig(t, 100*time.Millisecond, nil)
	r.env.CheckEvery = 20 * time.Millisecond
	return r
}

// tells waits until the status gives why the running release was withdrawn.
func (r *rig) tells(why string) Status {
	r.Helper()
	var s Status
	waittest.Nil(r, fmt.Sprintf("the status tells %q", why), func() error {
		s = Status{}
		if err := r.get("/status", &s); err != nil {
			return err
		}
		if s.Yanked != why {
			return fmt.Errorf("it tells %q", s.Yanked)
		}
		return nil
	})
	return s
}

func (r *rig) yank(version, why string) {
	r.Helper()
	if err := r.repo.Yank(r.Context(), "demo", version, why); err != nil {
		r.Fatal(err)
	}
}

func TestYankedRunningReleaseIsToldAndLeftAlone(t *testing.T) {
	t.Parallel()
	r := newWatchingRig(t)
	r.first(build{Version: "1.0.0"})
	pin := r.upgraded("1.1.0")
	before, err := r.who()
	if err != nil {
		t.Fatal(err)
	}
	r.yank("1.1.0", "loses records")
	s := r.tells("loses records")
	if s.State != Committed || s.Running.Manifest != pin.Digest {
		t.Errorf("%+v", s.Attempt)
	}
	// A release that is withdrawn is refused all the same, and the one after
	// it is the way out, which ends the alert.
	other := r.publish(build{Version: "1.2.0"})
	r.yank("1.2.0", "crashes")
	r.request(Request{ID: "yanked", Pin: other})
	if s := r.ends("yanked"); s.State != Failed || !strings.Contains(s.Reason, "release withdrawn") || s.Yanked != "loses records" {
		t.Errorf("%s: %s (%q)", s.State, s.Reason, s.Yanked)
	}
	if now, err := r.who(); err != nil || now != before {
		t.Errorf("%+v serves, %+v before its release was withdrawn (%v)", now, before, err)
	}
	r.upgraded("1.3.0")
	r.tells("")
	r.yank("1.3.0", "by mistake")
	r.tells("by mistake")
	r.yank("1.3.0", "")
	r.tells("")
}

func TestReleaseThatWasInstalledByOtherMeansIsToldByItsVersion(t *testing.T) {
	t.Parallel()
	r := newWatchingRig(t)
	r.publish(build{Version: "1.0.0"})
	r.yank("1.0.0", "loses records")
	r.first(build{Version: "1.0.0"})
	r.tells("loses records")
}

// TestRepositoryThatIsAwayDisturbsNobodyAndIsToldOnce: an agent must outlive
// the server that its releases came from.
func TestRepositoryThatIsAwayDisturbsNobodyAndIsToldOnce(t *testing.T) {
	t.Parallel()
	r := newWatchingRig(t)
	r.publish(build{Version: "1.0.0"})
	r.first(build{Version: "1.0.0"})
	r.upgraded("1.1.0")
	r.yank("1.1.0", "loses records")
	r.tells("loses records")
	before, err := r.who()
	if err != nil {
		t.Fatal(err)
	}
	away := r.env.Repository + "-away"
	if err := os.Rename(r.env.Repository, away); err != nil {
		t.Fatal(err)
	}
	const lost, back = "index cannot be looked at", "index can be looked at again"
	waittest.Until(t, "the loss is logged", func() bool { return strings.Contains(r.logged(), lost) })
	// It answers, also for what needs no repository, and forgets nothing.
	r.request(Request{ID: "hold", Action: ActionHold, Reason: "audit"})
	r.answers("hold", "")
	r.request(Request{ID: "unhold", Action: ActionUnhold})
	r.answers("unhold", "")
	r.tells("loses records")
	if err := os.Rename(away, r.env.Repository); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the return is logged", func() bool { return strings.Contains(r.logged(), back) })
	if n, m := strings.Count(r.logged(), lost), strings.Count(r.logged(), back); n != 1 || m != 1 {
		t.Errorf("the loss is logged %d times, the return %d times", n, m)
	}
	if now, err := r.who(); err != nil || now != before {
		t.Errorf("%+v serves, before %+v (%v)", now, before, err)
	}
}

func TestWhereARunningReleaseComesFromIsToldAlsoWithoutItsAgent(t *testing.T) {
	t.Parallel()
	r := newWatchingRig(t)
	r.first(build{Version: "1.0.0"})
	path := makeBinary(t, build{Version: "1.1.0"})
	created := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	pin, err := r.repo.Publish(t.Context(), release.Release{
		Name: "demo", Version: "1.1.0", Revision: "0123abc", Created: created,
		Requires: release.Requires{Upgrade: ">=1.0.0"}, Binaries: []release.Binary{{Path: path}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.request(Request{ID: "1", Pin: pin, By: "ops@host", Asked: "^1.0.0"})
	s := r.ends("1")
	if s.State != Committed || s.Asked != "^1.0.0" || s.AllowedBy != rule {
		t.Fatalf("%+v", s.Attempt)
	}
	good := func(p *Provenance) bool {
		return p != nil && p.Revision == "0123abc" && p.Created.Equal(created) && strings.HasPrefix(p.Go, "go1.") && p.AllowedBy == rule &&
			p.By == "ops@host" && p.Error == "" && p.SignedBy != nil && p.SignedBy.Comment == "demo 1.1.0" && len(p.SignedBy.Key) == 16
	}
	r.serves("1.1.0")
	if waittest.Nil(t, "the new release reports", func() error { s = Status{}; return r.get("/status", &s) }); !good(s.Provenance) {
		t.Errorf("the status tells %+v", s.Provenance)
	}
	// What came after it changes nothing of where it comes from.
	r.request(Request{ID: "2", Pin: release.Pin{Version: "0.9.0", Digest: pin.Digest[:7] + strings.Repeat("0", 64)}})
	r.ends("2")
	r.stop()
	r.awaitFree()
	report, err := Inspect(r.env.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	name := report.Current
	if p := report.Provenance[name]; !good(&p) {
		t.Errorf("the state directory tells %+v of %s", p, name)
	}
	for slot, p := range report.Provenance {
		if strings.HasPrefix(slot, "1.0.0-") && (p.SignedBy != nil || p.AllowedBy != "" || !strings.HasPrefix(p.Go, "go1.")) {
			t.Errorf("of what was installed by other means it tells %+v", p)
		}
	}
	file := filepath.Join(r.env.StateDir, slotsDir, name, releaseFile)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(raw), "0123abc", "badbad0", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if report, err = Inspect(r.env.StateDir); err != nil {
		t.Fatal(err)
	}
	if p := report.Provenance[name]; p.Revision != "" || p.SignedBy != nil || !strings.Contains(p.Error, "is not the manifest that was staged") {
		t.Errorf("of a manifest that was written to it tells %+v", p)
	}
}
