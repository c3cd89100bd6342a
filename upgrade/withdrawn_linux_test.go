package upgrade

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/release"
)

// knows waits until the agent knows that exactly these are withdrawn.
func (r *rig) knows(versions ...string) {
	r.Helper()
	waittest.Nil(r, fmt.Sprintf("the agent knows %q to be withdrawn", versions), func() error {
		var s Status
		if err := r.get("/status", &s); err != nil {
			return err
		}
		var known []string
		for _, w := range s.Withdrawn {
			known = append(known, w.Version)
		}
		slices.Sort(known)
		if !slices.Equal(known, versions) {
			return fmt.Errorf("it knows %q", known)
		}
		return nil
	})
}

// away takes the repository from the host, as an outage does.
func (r *rig) away() {
	r.Helper()
	if err := os.Rename(r.env.Repository, r.env.Repository+".away"); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = os.Rename(r.env.Repository+".away", r.env.Repository) })
}

// newRigWithWithdrawal runs 1.2.0 and has kept 1.1.0, which it knows to be
// withdrawn, and 1.0.0. Its repository is gone.
func newRigWithWithdrawal(t *testing.T) *rig {
	t.Helper()
	r := newWatchingRig(t)
	r.first(build{Version: "1.0.0"})
	r.upgraded("1.1.0")
	r.upgraded("1.2.0")
	r.yank("1.1.0", "loses records")
	r.knows("1.1.0")
	r.away()
	return r
}

func TestRollbackToAReleaseThatIsKnownToBeWithdrawnIsRefusedUnlessItIsAskedFor(t *testing.T) {
	t.Parallel()
	r := newRigWithWithdrawal(t)
	const says = "release withdrawn: 1.1.0 was withdrawn by its publisher (loses records): go back to 1.0.0, retained and not withdrawn, or, if it must be this one, ask again with --allow-withdrawn"
	for id, req := range map[string]Request{
		"the release before": {},
		"by its name":        {Pin: release.Pin{Version: "1.1.0"}},
		"by force":           {Force: true},
	} {
		req.ID, req.Action = id, ActionRollback
		r.request(req)
		if s := r.ends(id); s.State != Failed || !strings.HasSuffix(s.Reason, says) {
			t.Errorf("%s: %s: %s", id, s.State, s.Reason)
		}
	}
	r.stop()
	r.awaitFree()
	if _, err := RollBack(r.env.StateDir, Request{}); !errors.Is(err, release.ErrYanked) || !strings.Contains(err.Error(), says) {
		t.Errorf("while no agent runs: %v", err)
	}
	report, err := Inspect(r.env.StateDir)
	if err != nil || len(report.Withdrawn) != 1 || report.Withdrawn[0].Version != "1.1.0" || report.Withdrawn[0].Reason != "loses records" {
		t.Errorf("the state directory tells %+v (%v)", report.Withdrawn, err)
	}
	// No look at an index comes between a start and these.
	r.start(r.cmd.Path)
	r.serves("1.2.0")
	if a := r.followed(r.leave(Request{Action: ActionRollback})); a.State != Failed || !strings.HasSuffix(a.Reason, says) {
		t.Errorf("after a restart: %s: %s", a.State, a.Reason)
	}
	a := r.followed(r.leave(Request{Action: ActionRollback, AllowWithdrawn: true}))
	if a.State != Committed || a.To.Version != "1.1.0" || !strings.HasSuffix(a.AllowedBy, "; withdrawn by its publisher (loses records), which was expressly allowed") {
		t.Fatalf("allowed: %+v", a)
	}
	r.serves("1.1.0")
	r.tells("loses records")
}

func TestRollbackToAReleaseThatIsNotWithdrawnTakesItsUsualWay(t *testing.T) {
	t.Parallel()
	r := newRigWithWithdrawal(t)
	if a := r.followed(r.leave(Request{Action: ActionRollback, Pin: release.Pin{Version: "1.0.0"}})); a.State != Committed || strings.Contains(a.AllowedBy, "withdrawn") {
		t.Errorf("%+v", a)
	}
	r.serves("1.0.0")
}

func TestWithdrawalsThatCannotBeReadAllowNoRollbackButTheOneThatIsAskedFor(t *testing.T) {
	t.Parallel()
	r := newRigAt110(t)
	r.stop()
	r.awaitFree()
	r.away() // a look at the index would write it anew
	r.write(withdrawnFile, "{")
	const says = "it is not known whether 1.0.0 is withdrawn"
	if _, err := RollBack(r.env.StateDir, Request{}); err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("while no agent runs: %v", err)
	}
	if report, err := Inspect(r.env.StateDir); err != nil || report.Unreadable[DocumentWithdrawn] == "" {
		t.Errorf("the state directory tells %+v (%v)", report.Unreadable, err)
	}
	r.start(r.cmd.Path)
	r.serves("1.1.0")
	if a := r.followed(r.leave(Request{Action: ActionRollback})); a.State != Failed || !strings.Contains(a.Reason, says) {
		t.Errorf("%+v", a)
	}
	if a := r.followed(r.leave(Request{Action: ActionRollback, AllowWithdrawn: true})); a.State != Committed {
		t.Errorf("%+v", a)
	}
	r.serves("1.0.0")
}

// TestFailedReleaseGivesWayToAWithdrawnOne: whatever the publisher says of it,
// it serves, and the host cannot be reached without.
func TestFailedReleaseGivesWayToAWithdrawnOne(t *testing.T) {
	t.Parallel()
	r := newWatchingRig(t)
	r.env.RemoteRollback = RemoteRollbackNever
	r.first(build{Version: "1.0.0"})
	installed := r.cmd.Path
	r.upgraded("1.1.0")
	r.yank("1.1.0", "loses records")
	r.tells("loses records")
	r.ask(r.publish(build{Version: "1.2.0", Fault: "unhealthy"}))
	if s := r.ends("1.2.0"); s.State != RolledBack || s.Running.Version != "1.1.0" {
		t.Fatalf("after a probation: %+v", s.Attempt)
	}
	r.serves("1.1.0")
	r.ask(r.publish(build{Version: "1.3.0", Fault: "cold-exit"}))
	if s := r.ends("1.3.0"); s.State != Committed {
		t.Fatalf("%+v", s.Attempt)
	}
	r.knows("1.1.0")
	r.kill()
	r.away()
	for range bootsMax {
		r.run(installed)
		<-r.done
		r.kill()
	}
	_ = os.Remove(r.env.Address)
	r.run(installed)
	r.serves("1.1.0")
	if s := r.tells("loses records"); s.By != ByBootGuard || s.To.Version != "1.3.0" || s.Provenance.Rollback == nil || s.Provenance.Rollback.By != ByBootGuard || s.Provenance.Rollback.From != "1.3.0" {
		t.Errorf("%+v", s.Attempt)
	}
}

func TestKnownWithdrawalsFollowTheIndex(t *testing.T) {
	t.Parallel()
	r := newWatchingRig(t)
	r.first(build{Version: "1.0.0"})
	r.upgraded("1.1.0")
	r.upgraded("1.2.0")
	r.yank("1.1.0", "loses records")
	r.yank("1.2.0", "loses them, too")
	r.knows("1.1.0", "1.2.0")
	r.yank("1.1.0", "")
	r.knows("1.2.0")
	r.yank("1.2.0", "")
	r.knows()
	waittest.Until(t, "nothing is left on disk", func() bool {
		_, err := os.Stat(filepath.Join(r.env.StateDir, withdrawnFile))
		return os.IsNotExist(err)
	})
}

// A withdrawal would otherwise be forgotten by whoever deletes the index.
func TestRepositoryBegunAnewTakesNoWithdrawalBack(t *testing.T) {
	t.Parallel()
	r := newWatchingRig(t)
	repo, err := release.NewRepository(release.RepositoryConfig{Dir: r.env.Repository, Key: r.key, PlainOnly: true, StateDir: filepath.Join(t.TempDir(), "publisher")})
	if err != nil {
		t.Fatal(err)
	}
	r.repo = repo
	r.first(build{Version: "1.0.0"})
	r.upgraded("1.1.0")
	r.upgraded("1.2.0")
	r.yank("1.1.0", "loses records")
	r.knows("1.1.0")
	if err := os.Remove(filepath.Join(r.env.Repository, "index.json")); err != nil {
		t.Fatal(err)
	}
	r.upgraded("1.3.0") // the host has accepted the new index
	r.knows("1.1.0")
	r.request(Request{ID: "back", Action: ActionRollback, Pin: release.Pin{Version: "1.1.0"}})
	if s := r.ends("back"); s.State != Failed || !strings.Contains(s.Reason, "loses records") {
		t.Errorf("%s: %s", s.State, s.Reason)
	}
}

// An attempt may wait for hours.
func TestWithdrawalDuringAnAttemptIsHeardBeforeTheRollbackThatEndsIt(t *testing.T) {
	t.Parallel()
	r := newWatchingRig(t)
	r.first(build{Version: "1.0.0"})
	r.upgraded("1.1.0")
	r.upgraded("1.2.0")
	pin := r.publish(build{Version: "1.3.0"})
	r.write("busy", "backup")
	r.ask(pin)
	waittest.Nil(t, "it waits", func() error {
		var s Status
		if err := r.get("/status", &s); err != nil {
			return err
		}
		if s.State != Staged {
			return errors.New(string(s.State))
		}
		return nil
	})
	r.yank("1.1.0", "loses records")
	index, err := os.ReadFile(filepath.Join(r.env.Repository, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	digest := fmt.Sprintf("%x", sha256.Sum256(index))
	waittest.Until(t, "the host has accepted the index", func() bool {
		seen, err := os.ReadFile(filepath.Join(r.env.StateDir, "trust.json"))
		return err == nil && strings.Contains(string(seen), digest)
	})
	r.request(Request{ID: "back", Action: ActionRollback, Pin: release.Pin{Version: "1.1.0"}, Force: true})
	if s := r.ends("back"); s.State != Failed || !strings.Contains(s.Reason, "loses records") {
		t.Errorf("%s: %s", s.State, s.Reason)
	}
}
