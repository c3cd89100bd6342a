package agent

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// planned is a plan as a controller would move it, written by hand.
type planned struct {
	*fleet
	rollout.Plan
}

func (f *fleet) planned(target rollout.Target) *planned {
	return &planned{f, rollout.Plan{
		ID: "r1", By: "test", Created: time.Now(), Since: time.Now(), Strategy: rollout.Rolling, Target: target,
		Stages: []rollout.Stage{{Name: "all", BasisPoints: 10000}}, Deadline: 600,
	}.WithDefaults()}
}

// moves admits everybody that is in the registry under the instruction.
func (p *planned) moves(number int, action rollout.Action) {
	p.Helper()
	if p.Instruction = (rollout.Instruction{Number: number, Action: action}); number == 1 {
		p.Created = time.Now() // as a rollout that begins now: agents follow no older one
	}
	p.Cursor = rollout.Cursor{AsOf: p.put("revision", ""), Marks: []rollout.Mark{{Open: true, Rank: rollout.LastRank}}}
	if p.State = rollout.Running; action == rollout.ActRevert {
		p.State = rollout.Reverting
	}
	p.write()
}

func (p *planned) write() {
	p.Helper()
	data, err := json.Marshal(p.Plan)
	if err != nil {
		p.Fatal(err)
	}
	p.put("plan/default", string(data))
}

// put writes a key and returns the revision.
func (f *fleet) put(key, value string) int64 {
	f.Helper()
	r, err := f.etcd.Client(f).Put(f.ctx(), newKeys("").root+key, value)
	if err != nil {
		f.Fatal(err)
	}
	return r.Header.Revision
}

// reports waits for a report and a version.
func (m *member) reports(request string, state rollout.ReportState, version string) rollout.Report {
	m.Helper()
	var got rollout.Report
	waittest.Nil(m, fmt.Sprintf("%s reports %s %s on %s", m.id, request, state, version), func() error {
		e := m.entry(Running, Upgrading)
		if e.Status.Rollout != nil {
			got = *e.Status.Rollout
		}
		if got.Request != request || got.State != state || e.Version != version {
			return fmt.Errorf("%s reports %+v; %s", e.Version, got, e.Status.RolloutError)
		}
		return nil
	})
	return got
}

// TestAgentsFollowThePlanOfTheirFleet: a real agent that is let in upgrades itself, says
// so through the swap, goes back when the plan does, is not let in by a mark that
// passed before it came, and is not let in at all where its operator holds it.
func TestAgentsFollowThePlanOfTheirFleet(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1")
	m.env.RemoteRollback, m.env.Busy = upgrade.RemoteRollbackAny, filepath.Join(t.TempDir(), "busy")
	if err := os.WriteFile(m.env.Busy, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m.start().registered()
	held := f.member("a2").start()
	held.registered()
	if _, err := f.dir.Order(f.ctx(), "a2", upgrade.Request{Action: upgrade.ActionHold, By: "ops", Reason: "audit"}); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "a2 is held", func() bool { return held.registered().Status.Upgrade.Hold != nil })
	pin := f.publish(build{Version: "1.1.0"})
	p := f.planned(rollout.Target{Release: pin, Program: "demo"})
	p.moves(1, rollout.ActSwitch)
	if r := m.reports("r1.1", rollout.ReportWaiting, "1.0.0"); !strings.Contains(r.Reason, "a backup") {
		t.Errorf("what it waits for is not told: %+v", r)
	}
	f.put("freeze/default", fmt.Sprintf(`{"schema":%d,"by":"ops","at":%q}`, rollout.Schema, time.Now().Format(time.RFC3339)))
	waittest.Nil(t, "what waits is taken back when the brake is pulled", func() error {
		s := m.entry(Running, Upgrading).Status
		if u := s.Upgrade; u.Unbegun != upgrade.UnbegunRetracted || s.Rollout == nil || s.Rollout.State != rollout.ReportWaiting || !strings.Contains(s.Rollout.Reason, "ops") {
			return fmt.Errorf("%s: %s; %+v", u.State, u.Reason, s.Rollout)
		}
		return nil
	})
	if err := os.Remove(m.env.Busy); err != nil {
		t.Fatal(err)
	}
	if _, err := f.etcd.Client(t).Delete(f.ctx(), newKeys("").root+"freeze/default"); err != nil {
		t.Fatal(err)
	}
	m.reports("r1.1", rollout.ReportDone, "1.1.0")
	if r := held.reports("r1.1", rollout.ReportHeld, "1.0.0"); !strings.Contains(r.Reason, "audit") {
		t.Errorf("why it is held is not told: %+v", r)
	}

	late := f.member("a3").start()
	late.registered()
	p.moves(2, rollout.ActRevert)
	m.reports("r1.2", rollout.ReportDone, "1.0.0")
	if r := late.registered().Status.Rollout; r != nil {
		t.Errorf("an agent that was never let in, and that is not to go back, reports %+v", r)
	}

	// The next rollout, with an agent that is later than its mark.
	p.ID, p.Seq = "r2", 0
	p.State, p.Instruction = rollout.Running, rollout.Instruction{Number: 1, Action: rollout.ActSwitch}
	p.Cursor = rollout.Cursor{AsOf: late.registered().Joined - 1, Marks: []rollout.Mark{{Open: true, Rank: rollout.LastRank}}}
	p.write()
	m.reports("r2.1", rollout.ReportDone, "1.1.0")
	if e := late.registered(); e.Version != "1.0.0" || e.Status.Rollout != nil {
		t.Errorf("the late one runs %s and reports %+v before it is let in", e.Version, e.Status.Rollout)
	}
	p.State = rollout.Completed
	p.Cursor.Late = rollout.Late{AsOf: late.registered().Joined, Mark: rollout.Mark{Open: true, Rank: rollout.LastRank}}
	p.write()
	late.reports("r2.1", rollout.ReportDone, "1.1.0")

	p.put("plan/default", `{"schema":1}`)
	waittest.Until(t, "a plan that cannot be followed is told", func() bool {
		return strings.Contains(m.registered().Status.RolloutError, "plan/default")
	})
}

// TestAConfigurationIsRolledOutByTheSamePlan: it comes into force on the agents that are
// let in, alone; outlives a kill; a bad one leaves what runs; and a revert takes it
// back.
func TestAConfigurationIsRolledOutByTheSamePlan(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1").start()
	m.registered()
	client := f.etcd.Client(t)
	if _, err := config.Put(f.ctx(), client, "", "group/web", []byte("greeting: own")); err != nil {
		t.Fatal(err)
	}
	greets := func(want string) {
		t.Helper()
		waittest.Nil(t, "it greets with "+want, func() error {
			if got, err := m.greets(); err != nil || got != want {
				return fmt.Errorf("%q, %w", got, err)
			}
			return nil
		})
	}
	greets("own")
	document := func(id, text string) *planned {
		sum := sha256.Sum256([]byte(text))
		p := f.planned(rollout.Target{Config: &rollout.ConfigTarget{Scope: "group/web", Digest: fmt.Sprintf("sha256:%x", sum)}})
		p.ID = id
		f.put(fmt.Sprintf("rollout-document/default/%x", sum), text)
		return p
	}
	p := document("r1", "greeting: rolled out")
	p.moves(1, rollout.ActSwitch)
	m.reports("r1.1", rollout.ReportDone, "1.0.0")
	greets("rolled out")

	m.kill()
	m.start().takesOver()
	greets("rolled out")
	m.reports("r1.1", rollout.ReportDone, "1.0.0")

	bad := document("r2", "greetings: [")
	bad.moves(1, rollout.ActSwitch)
	if r := m.reports("r2.1", rollout.ReportFailed, "1.0.0"); !strings.Contains(r.Reason, "config/group/web") {
		t.Errorf("what is wrong is not told: %+v", r)
	}
	greets("rolled out")
	bad.moves(2, rollout.ActRevert)
	m.reports("r2.2", rollout.ReportDone, "1.0.0")

	p.ID = "r3"
	p.moves(1, rollout.ActSwitch)
	m.reports("r3.1", rollout.ReportDone, "1.0.0")
	p.moves(2, rollout.ActRevert)
	m.reports("r3.2", rollout.ReportDone, "1.0.0")
	greets("own")

	// Completed: what is published from now on is read again.
	p.ID = "r4"
	p.moves(1, rollout.ActSwitch)
	m.reports("r4.1", rollout.ReportDone, "1.0.0")
	p.State = rollout.Completed
	p.write()
	if _, err := config.Put(f.ctx(), client, "", "group/web", []byte("greeting: published")); err != nil {
		t.Fatal(err)
	}
	greets("published")

	// Completed and reverted, where the scope had no document: what is published is
	// the one to leave, and at the end there is none again.
	if _, err := config.Delete(f.ctx(), client, "", config.Change{Scope: "group/web", Replaces: config.AnyRevision}); err != nil {
		t.Fatal(err)
	}
	greets("hello")
	for id, published := range map[string]bool{"r5": true, "r6": false} {
		p = document(id, "greeting: once")
		p.Previous = document(id, "{}\n").Target
		p.moves(1, rollout.ActSwitch)
		m.reports(id+".1", rollout.ReportDone, "1.0.0")
		if published {
			if _, err := config.Put(f.ctx(), client, "", "group/web", []byte("greeting: once")); err != nil {
				t.Fatal(err)
			}
		}
		p.moves(2, rollout.ActRevert)
		m.reports(id+".2", rollout.ReportDone, "1.0.0")
		greets("hello")
		p.State = rollout.Reverted
		p.write()
		if published {
			if _, err := config.Delete(f.ctx(), client, "", config.Change{Scope: "group/web", Replaces: config.AnyRevision}); err != nil {
				t.Fatal(err)
			}
		}
		waittest.Until(t, "nothing is laid over any more", func() bool {
			c := m.registered().Status.Config
			return c != nil && len(c.Layers) == 0
		})
	}
}

// TestAlertFromBeforeTheChangeIsToldAsSuchByTheSuccessor: it fires anew in the new
// process, and the release would be blamed for a full disk.
func TestAlertFromBeforeTheChangeIsToldAsSuchByTheSuccessor(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1")
	m.env.Respond = []string{"sick=drain"} // which never fires
	m.start().registered()
	if err := os.WriteFile(filepath.Join(m.env.StateDir, "hot"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fires := func(what string) *rollout.Member {
		t.Helper()
		var got *rollout.Member
		waittest.Nil(t, "hot fires "+what, func() error {
			e := m.entry(Running, Upgrading)
			if got = RolloutMember(&e, time.Now()); !slices.ContainsFunc(got.Alerts, func(a rollout.Alert) bool { return a.Name == "hot" }) {
				return fmt.Errorf("%+v", got.Alerts)
			}
			return nil
		})
		return got
	}
	fires("before the change")
	f.planned(rollout.Target{Release: f.publish(build{Version: "1.1.0"}), Program: "demo"}).moves(1, rollout.ActSwitch)
	m.reports("r1.1", rollout.ReportDone, "1.1.0")
	if got := fires("after it"); got.Report == nil || !slices.Contains(got.Report.Before, "hot") {
		t.Errorf("%+v fires; %+v", got.Alerts, got.Report)
	}
}
