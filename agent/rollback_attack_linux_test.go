package agent

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

// withdraws has m run 1.2.0, with 1.1.0, known to be withdrawn, and 1.0.0 kept.
func (m *member) withdraws() {
	m.Helper()
	m.env.CheckEvery = 50 * time.Millisecond
	m.start()
	for _, version := range []string{"1.1.0", "1.2.0"} {
		pin := m.publish(build{Version: version})
		m.ordered(version, upgrade.Request{Action: upgrade.ActionUpgrade, Pin: pin})
		if said, s := m.toldOf(version, ""); s.State != upgrade.Committed {
			m.Fatal(said)
		}
	}
	if err := m.repo.Yank(m.ctx(), "demo", "1.1.0", "loses records"); err != nil {
		m.Fatal(err)
	}
	waittest.Nil(m, "the registry tells the withdrawal", func() error {
		w := m.registered().Status.Upgrade.Withdrawn
		if len(w) != 1 || w[0].Version != "1.1.0" || w[0].Reason != "loses records" {
			return fmt.Errorf("it tells %+v", w)
		}
		return nil
	})
}

// ordered writes an order that says all that an intruder could want to say.
func (m *member) ordered(id string, r upgrade.Request) {
	m.Helper()
	r.ID, r.By, r.Force = id, "intruder", true
	data, err := json.Marshal(Order{Schema: schema, Request: r})
	if err != nil {
		m.Fatal(err)
	}
	m.forced(strings.Replace(string(data), `{"schema"`, `{"remote":false,"Remote":false,"next_here":true,"schema"`, 1))
}

func TestEtcdOrderOfAWithdrawnReleaseIsRefusedUnlessThePolicyPermitsIt(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1")
	m.withdraws()
	before := m.registered()
	for id, c := range map[string]struct {
		r    upgrade.Request
		says string
	}{
		"before":           {upgrade.Request{}, "go back to 1.0.0"},
		"named":            {upgrade.Request{Pin: release.Pin{Version: "1.1.0"}}, "go back to 1.0.0"},
		"before, allowed":  {upgrade.Request{AllowWithdrawn: true}, "ask with --allow-withdrawn on the host itself, which takes no such order from outside (--remote-rollback offered)"},
		"named, allowed":   {upgrade.Request{AllowWithdrawn: true, Pin: release.Pin{Version: "1.1.0"}}, "takes no such order from outside"},
		"upgrade, allowed": {upgrade.Request{Action: upgrade.ActionUpgrade, Pin: release.Pin{Version: "1.1.0", Digest: "sha256:" + strings.Repeat("ab", 32)}}, "release withdrawn: demo 1.1.0"},
	} {
		if c.r.Action == "" {
			c.r.Action = upgrade.ActionRollback
		}
		m.ordered(id, c.r)
		said, s := m.toldOf(id, "")
		if s.State != upgrade.Failed || !strings.Contains(said, "release withdrawn") || !strings.Contains(said, c.says) {
			t.Errorf("%s: %s, want one that says %q", id, said, c.says)
		}
	}
	if e := m.registered(); e.PID != before.PID {
		t.Fatalf("now %s with pid %d runs", e.Version, e.PID)
	}
	m.ordered("offered", upgrade.Request{Action: upgrade.ActionRollback, Pin: release.Pin{Version: "1.0.0"}})
	if said, s := m.toldOf("offered", ""); s.State != upgrade.Committed {
		t.Errorf("to a release that is not withdrawn: %s", said)
	}

	lax := newFleet(t).member("a2")
	lax.env.RemoteRollback = upgrade.RemoteRollbackAny
	lax.withdraws()
	lax.ordered("any", upgrade.Request{Action: upgrade.ActionRollback, AllowWithdrawn: true})
	if said, s := lax.toldOf("any", ""); s.State != upgrade.Committed || s.Running.Version != "1.1.0" || !strings.Contains(s.AllowedBy, "expressly allowed") {
		t.Errorf("by a policy that permits it: %s, %+v", said, s)
	}
}

func TestEtcdOrderOfARollbackIsRefusedWhereThePolicyForbidsThemAndTheHostsOwnIsNot(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1")
	m.env.RemoteRollback = upgrade.RemoteRollbackNever
	m.start()
	m.ordered("1.1.0", upgrade.Request{Action: upgrade.ActionUpgrade, Pin: m.publish(build{Version: "1.1.0"})})
	if said, s := m.toldOf("1.1.0", ""); s.State != upgrade.Committed {
		t.Fatal(said)
	}
	for id, r := range map[string]upgrade.Request{
		"before": {}, "named": {Pin: release.Pin{Version: "1.0.0"}}, "allowed": {AllowWithdrawn: true},
	} {
		r.Action = upgrade.ActionRollback
		m.ordered(id, r)
		if said, s := m.toldOf(id, ""); s.State != upgrade.Failed || !strings.Contains(said, "outside the upgrade policy: a rollback was ordered from outside") {
			t.Errorf("%s: %s", id, said)
		}
	}
	own, err := upgrade.Ask(m.state, upgrade.Request{Action: upgrade.ActionRollback})
	if err != nil {
		t.Fatal(err)
	}
	if said, s := m.toldOf(own.ID, ""); s.State != upgrade.Committed || s.Running.Version != "1.0.0" {
		t.Errorf("on the host itself: %s", said)
	}
}
