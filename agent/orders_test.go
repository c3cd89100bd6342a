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
		"":       func(*Order) {},
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
}
