package agent

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

func TestOrderThatWouldNotFitTheJournalIsRefused(t *testing.T) {
	good := Order{Schema: schema, Request: upgrade.Request{
		ID: "order-7", Action: upgrade.ActionUpgrade, By: "operator@host", Expect: "1.0.0",
		Pin: release.Pin{Version: "1.1.0", Digest: "sha256:" + strings.Repeat("cd", 32)},
	}}
	long := strings.Repeat("x", orderLimit+1)
	for name, edit := range map[string]func(*Order){
		"":       func(o *Order) { o.ID = long[:nameLimit] },
		"id":     func(o *Order) { o.ID = long },
		"by":     func(o *Order) { o.By = long },
		"expect": func(o *Order) { o.Expect = long },
		"reason": func(o *Order) { o.Reason = long },
	} {
		order := good
		edit(&order)
		data, err := json.Marshal(order)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseOrder("order/a1", data); (err == nil) != (name == "") || err != nil && !strings.Contains(err.Error(), "at most 1024 are taken") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A status that leaves it out would leave whoever follows the order waiting.
	for _, id := range []string{long[:nameLimit+1], strings.Repeat(`"`, nameLimit)} {
		r := good.Request
		if r.ID = id; checkRequest(r) == nil {
			t.Errorf("an id of %d bytes is taken, and is not told", len(id))
		}
	}
}
