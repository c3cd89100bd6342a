package agent

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/etcdkv"
)

func TestAlertOfAWithdrawnReleaseIsAddedUnlessItIsConfiguredOrUnwanted(t *testing.T) {
	own := health.Rule{Name: "mine", Indicator: health.ReleaseYanked, For: time.Hour}
	other := health.Rule{Name: "disk", Indicator: "disk"}
	for name, c := range map[string]struct {
		rules []health.Rule
		want  int
	}{
		"default":           {nil, len(health.DefaultRules()) + 1},
		"none wanted":       {[]health.Rule{}, 0},
		"others configured": {[]health.Rule{other}, 2},
		"own configured":    {[]health.Rule{other, own}, 2},
	} {
		got := withRule(c.rules, yankedRule())
		if len(got) != c.want {
			t.Errorf("%s: %d rules, want %d", name, len(got), c.want)
		}
		if _, err := health.New(health.Config{Rules: got}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStatusOfWhatRunsAndOrderOfARangeAreReadAsEver(t *testing.T) {
	order, err := parseOrder("order", golden(t, "order-1-asked.json"))
	if err != nil || order.Asked != "^1.0.0" || order.Pin.Version != "1.1.0" {
		t.Errorf("order: %+v, %v", order, err)
	}
	if data, err := json.Marshal(order); err != nil || !bytes.Equal(append(data, '\n'), golden(t, "order-1-asked.json")) {
		t.Errorf("order is now written as %s (%v)", data, err)
	}
	d := &Directory{keys: newKeys("")}
	entries := entriesOf(d, map[string]etcdkv.Value{
		d.keys.registry("a1"): {Data: golden(t, "registration-1.json")},
		d.keys.status("a1"):   {Data: golden(t, "status-1-yanked.json")},
	})
	if len(entries) != 1 || entries[0].Error != "" {
		t.Fatalf("%+v", entries)
	}
	u := entries[0].Status.Upgrade
	p := u.Provenance
	if u.Yanked != "loses records" || u.Asked != "^1.0.0" || u.AllowedBy == "" || p == nil || p.Revision != "0123abc" ||
		p.SignedBy == nil || p.SignedBy.Key != "0123456789ABCDEF" || p.SignedBy.Comment != "agentd 1.1.0" || p.By != "operator@host" || p.Go != "go1.26.8" {
		t.Errorf("%+v of %+v", u, p)
	}
	var s Status
	raw := golden(t, "status-1-yanked.json")
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	if data, err := json.Marshal(s); err != nil || !bytes.Equal(append(data, '\n'), raw) {
		t.Errorf("status is now written as\n%s (%v)", data, err)
	}
}
