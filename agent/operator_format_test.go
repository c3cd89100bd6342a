package agent

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/upgrade"
)

func TestOrdersThatAreNoUpgradeAreStillRead(t *testing.T) {
	back, err := parseOrder("order", golden(t, "order-1-rollback.json"))
	if err != nil || back.Action != upgrade.ActionRollback || back.Pin.Version != "1.0.0" || back.Expect != "1.1.0" || !back.Force {
		t.Errorf("rollback: %+v, %v", back, err)
	}
	hold, err := parseOrder("order", golden(t, "order-1-hold.json"))
	if err != nil || hold.Action != upgrade.ActionHold || hold.Reason != "audit" || !hold.Pin.IsZero() {
		t.Errorf("hold: %+v, %v", hold, err)
	}
	for name, order := range map[string]Order{"order-1-rollback.json": back, "order-1-hold.json": hold} {
		if data, err := json.Marshal(order); err != nil || !bytes.Equal(append(data, '\n'), golden(t, name)) {
			t.Errorf("%s is now written as %s (%v)", name, data, err)
		}
	}
}

func TestStatusTellsHoldAnswerAndWaysBack(t *testing.T) {
	d := &Directory{keys: newKeys("")}
	entries := entriesOf(d, map[string]etcdkv.Value{
		d.keys.registry("a1"): {Data: golden(t, "registration-1.json")},
		d.keys.status("a1"):   {Data: golden(t, "status-1-held.json")},
	})
	if len(entries) != 1 || entries[0].Error != "" {
		t.Fatalf("%+v", entries)
	}
	u := entries[0].Status.Upgrade
	if u.Hold == nil || u.Hold.Reason != "audit" || u.Answer == nil || u.Answer.Action != upgrade.ActionHold || u.Answer.Error != "" ||
		len(u.Retained) != 1 || u.Retained[0].Version != "1.1.0" || len(u.Quarantine) != 1 || u.Action != upgrade.ActionRollback {
		t.Errorf("%+v", u)
	}
	for _, id := range []string{"order-7", "order-8", "order-9", "order-10"} {
		if !answers(u, id) || !answered(u, id) {
			t.Errorf("%s has ended and would be performed again", id)
		}
	}
	if answers(u, "order-11") || answered(u, "order-11") {
		t.Error("an order that nobody has performed counts as answered")
	}
}
