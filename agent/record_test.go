package agent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/upgrade"
)

// golden reads what the first release of schema 1 wrote. The files are never
// edited: fleets hold such values.
func golden(tb testing.TB, name string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func TestValuesOfSchema1AreStillRead(t *testing.T) {
	d := &Directory{keys: newKeys("")}
	entries := entriesOf(d, map[string]etcdkv.Value{
		d.keys.registry("a1"): {Data: golden(t, "registration-1.json")},
		d.keys.status("a1"):   {Data: golden(t, "status-1.json")},
	})
	if len(entries) != 1 || entries[0].Error != "" {
		t.Fatalf("%+v", entries)
	}
	e := entries[0]
	if e.Version != "1.1.0" || e.PID != 4711 || e.State.State != Running || e.Labels["env"] != "test" || e.Instance == "" || e.ManifestDigest == "" {
		t.Errorf("registration: %+v", e.Registration)
	}
	u := e.Status.Upgrade
	if u.OrderID != "order-7" || u.State != upgrade.RolledBack || u.Running.Version != "1.0.0" || u.LastFailed == nil || u.LastFailed.Attempts != 1 {
		t.Errorf("upgrade: %+v", u)
	}
	if c := e.Status.Config; c == nil || c.Running != 7 || c.Wanted != 9 || c.LastFailed == nil || !e.Status.Health.Ready {
		t.Errorf("status: %+v", e.Status)
	}
	order, err := parseOrder("order", golden(t, "order-1.json"))
	if err != nil || order.ID != "order-7" || order.Pin.Version != "1.1.0" || order.Expect != "1.0.0" {
		t.Errorf("order: %+v, %v", order, err)
	}
}

func TestValueOfANewerSchemaIsToldNotGuessed(t *testing.T) {
	d := &Directory{keys: newKeys("")}
	entries := entriesOf(d, map[string]etcdkv.Value{d.keys.registry("a1"): {Data: []byte(`{"schema":2,"id":"a1"}`)}})
	if len(entries) != 1 || entries[0].ID != "a1" || entries[0].Error == "" {
		t.Errorf("%+v", entries)
	}
	if _, err := parseOrder("order", []byte(`{"schema":2}`)); !errors.Is(err, ErrSchema) {
		t.Errorf("order: %v", err)
	}
}

func FuzzOrder(f *testing.F) {
	f.Add(golden(f, "order-1.json"))
	f.Add([]byte(`{"schema":1,"id":"x","action":"upgrade","pin":{"version":"latest","digest":"sha256:"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		order, err := parseOrder("order", data)
		if err != nil {
			return
		}
		if err := order.Validate(); err != nil || order.ID == "" {
			t.Errorf("order %+v was let through: %v", order, err)
		}
	})
}

// TestRootIsSpelledTheSameForAllKeys: registry and configuration of one agent
// would else lie under two roots.
func TestRootIsSpelledTheSameForAllKeys(t *testing.T) {
	for root, want := range map[string]string{
		"": "/agents/order/a1", "/": "/agents/order/a1", "x": "/x/order/a1", "/x/": "/x/order/a1", "//x/y": "/x/y/order/a1",
	} {
		if got := newKeys(root).order("a1"); got != want {
			t.Errorf("root %q: %s, want %s", root, got, want)
		}
	}
}
