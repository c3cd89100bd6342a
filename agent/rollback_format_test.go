package agent

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestOrderThatAllowsAWithdrawnReleaseIsReadAndWrittenAsEver(t *testing.T) {
	order, err := parseOrder("order", golden(t, "order-1-withdrawn.json"))
	if err != nil || !order.AllowWithdrawn || order.Remote {
		t.Fatalf("%+v, %v", order, err)
	}
	if data, err := json.Marshal(order); err != nil || !bytes.Equal(append(data, '\n'), golden(t, "order-1-withdrawn.json")) {
		t.Errorf("now written as %s (%v)", data, err)
	}
}
