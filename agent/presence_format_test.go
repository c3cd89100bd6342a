package agent

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

// TestPresenceOfSchema1IsStillRead: an operator would otherwise see a fleet of
// the first release without its heartbeats.
func TestPresenceOfSchema1IsStillRead(t *testing.T) {
	var r Registration
	if err := decode("registration", golden(t, "registration-1-presence.json"), &r); err != nil {
		t.Fatal(err)
	}
	if r.Home != "926ebe97-29a6-47d1-a7cf-476d9a63e517/fe00/11414739" || r.HeartbeatEvery != 5 || r.PID != 4711 {
		t.Errorf("%+v", r)
	}
	var s Status
	if err := decode("status", golden(t, "status-1-presence.json"), &s); err != nil {
		t.Fatal(err)
	}
	want := Presence{
		TTL: 30, HeartbeatEvery: 5, HeartbeatError: "renew etcd lease 1f at http://127.0.0.1:2379: etcdserver: no leader",
		EtcdHeard: time.Date(2026, 11, 21, 10, 0, 55, 0, time.UTC), StaleSeconds: 75.5, Stale: "nothing was heard on the watch for 1m16s",
		LeasesGranted: 2, LeasesResumed: 3, LeasesExchanged: 1, LeasesLost: 1, LeasesRefused: 4,
		Registrations: 5, Restorations: 1,
		LastRestored: &Restored{At: time.Date(2026, 11, 21, 10, 0, 40, 0, time.UTC), Key: "/agents/registry/a1", Keys: 2},
	}
	if s.Presence == nil || !reflect.DeepEqual(*s.Presence, want) {
		t.Errorf("%+v, want %+v", s.Presence, want)
	}
	if err := decode("status", golden(t, "status-1.json"), &s); err != nil || s.HeartbeatLatency != 0.001 {
		t.Errorf("a status without presence: %+v, %v", s, err)
	}
}

// FuzzRegistration and FuzzStatus: whoever can write to etcd can write anything
// there; what is read must be what would be written.
func FuzzRegistration(f *testing.F) {
	f.Add(golden(f, "registration-1.json"))
	f.Add(golden(f, "registration-1-presence.json"))
	f.Add(golden(f, "registration-1-fingerprint.json"))
	f.Fuzz(func(t *testing.T, data []byte) { rereads[Registration](t, data) })
}

// statusGoldens are statuses of every release so far.
func statusGoldens() []string {
	return []string{"status-1.json", "status-1-presence.json", "status-1-held.json", "status-1-order-error.json", "status-1-yanked.json", "status-1-tree.json", "status-1-rollout.json"}
}

func FuzzStatus(f *testing.F) {
	for _, name := range statusGoldens() {
		f.Add(golden(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) { rereads[Status](t, data) })
}

// rereads expects that what was read can be written, and read again as the
// same.
func rereads[T any](t *testing.T, data []byte) {
	t.Helper()
	var first, second T
	if decode("value", data, &first) != nil {
		return
	}
	written, err := json.Marshal(first)
	if err != nil {
		t.Fatalf("what was read cannot be written: %v", err)
	}
	if err := decode("value", written, &second); err != nil {
		t.Fatalf("what was written cannot be read: %v", err)
	}
	again, err := json.Marshal(second)
	if err != nil || string(again) != string(written) {
		t.Errorf("%s became %s (%v)", written, again, err)
	}
}
