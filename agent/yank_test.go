package agent

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/etcdkv"
)

func TestAlertsOfTheAgentItselfAreAddedUnlessConfiguredOrUnwanted(t *testing.T) {
	own := health.Rule{Name: "mine", Indicator: health.ReleaseYanked, For: time.Hour}
	other := health.Rule{Name: "disk", Indicator: "disk"}
	for name, c := range map[string]struct {
		rules []health.Rule
		want  []string
	}{
		"default":           {nil, nil},
		"none wanted":       {[]health.Rule{}, nil},
		"others configured": {[]health.Rule{other}, []string{"disk", health.EtcdStale, health.ReleaseYanked, health.ReleaseKeyRevoked}},
		"own configured":    {[]health.Rule{other, own}, []string{"disk", "mine", health.EtcdStale, health.ReleaseKeyRevoked}},
	} {
		got := withOwnRules(c.rules)
		var names []string
		for _, r := range got {
			names = append(names, r.Name)
		}
		if !slices.Equal(names, c.want) || (got == nil) != (c.rules == nil) {
			t.Errorf("%s: rules %q, want %q", name, names, c.want)
		}
		if _, err := health.New(health.Config{Rules: got}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, r := range ownRules() {
		if r.Indicator == health.EtcdStale && r.Above != staleAfter.Seconds() {
			t.Errorf("the alert of staleness is above %v s, and a watch has until %v to mend it", r.Above, staleAfter)
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
