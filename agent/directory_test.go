package agent

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/upgrade"
)

// The agent writes its status some time after it has read an order. Until then
// the status is about the order before.
func TestFollowedOrderIsNotRefusedForTheOneBeforeIt(t *testing.T) {
	d := &Directory{keys: newKeys("")}
	order := Order{Schema: schema, Request: upgrade.Request{ID: "good", Action: upgrade.ActionUpgrade}}
	value, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	const ordered = 20 // the mod revision of the order's key
	for name, c := range map[string]struct {
		status  string
		written int64 // the mod revision of the status' key
		refused bool
	}{
		"nothing is wrong":                           {`{"schema":1}`, 25, false},
		"this order":                                 {`{"schema":1,"order_error":"bad","order_error_revision":20}`, 25, true},
		"the order before":                           {`{"schema":1,"order_error":"bad","order_error_revision":11}`, 12, false},
		"the order before, though written after":     {`{"schema":1,"order_error":"bad","order_error_revision":11}`, 21, false},
		"older agent, about this order":              {`{"schema":1,"order_error":"bad"}`, 21, true},
		"older agent, written before this order was": {`{"schema":1,"order_error":"bad"}`, 12, false},
	} {
		_, err := d.follow(etcdkv.View{Values: map[string]etcdkv.Value{
			d.keys.order("a1"):  {Data: value, ModRevision: ordered},
			d.keys.status("a1"): {Data: []byte(c.status), ModRevision: c.written},
		}}, order, "a1")
		if (err != nil) != c.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// entriesOf are the entries that values make.
func entriesOf(d *Directory, values map[string]etcdkv.Value) []*Entry {
	r := newRoster(d.keys)
	for key, v := range values {
		r.set(key, v.Data, v.CreateRevision)
	}
	return r.entries()
}

// listed are all agents.
func listed(ctx context.Context, d *Directory) ([]Entry, error) {
	page, err := d.List(ctx, ListOptions{})
	return page.Entries, err
}

func TestStatusTellsWhichOrderCouldNotBeRead(t *testing.T) {
	d := &Directory{keys: newKeys("")}
	entries := entriesOf(d, map[string]etcdkv.Value{
		d.keys.registry("a1"): {Data: golden(t, "registration-1.json")},
		d.keys.status("a1"):   {Data: golden(t, "status-1-order-error.json")},
	})
	if len(entries) != 1 || entries[0].Error != "" || entries[0].Status == nil {
		t.Fatalf("%+v", entries)
	}
	if s := entries[0].Status; !s.refuses(4711, 4712) || s.refuses(4710, 4712) || s.refuses(4713, 4712) {
		t.Errorf("%q about revision %d", s.OrderError, s.OrderErrorRevision)
	}
}
