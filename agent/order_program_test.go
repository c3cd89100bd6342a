package agent

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/upgrade"
)

func TestOrderThatNamesItsProgramIsReadAndWrittenAsEver(t *testing.T) {
	order, err := parseOrder("order", golden(t, "order-1-program.json"))
	if err != nil || order.Program != "demo" || order.Asked != "^1.0.0" {
		t.Errorf("order: %+v, %v", order, err)
	}
	if data, err := json.Marshal(order); err != nil || !bytes.Equal(append(data, '\n'), golden(t, "order-1-program.json")) {
		t.Errorf("order is now written as %s (%v)", data, err)
	}
	if err := checkRequest(upgrade.Request{Action: upgrade.ActionHold, Program: strings.Repeat("x", 2000)}); err == nil {
		t.Error("an endless name of a program is taken down")
	}
}
