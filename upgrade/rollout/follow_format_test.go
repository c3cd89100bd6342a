package rollout

import (
	"encoding/json"
	"os"
	"reflect"
	"testing"
	"time"
)

// TestFollowedOfSchema1IsStillRead: a successor of another release would begin again
// what has failed.
func TestFollowedOfSchema1IsStillRead(t *testing.T) {
	data, err := os.ReadFile("testdata/followed-1.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseFollowed(data)
	if err != nil {
		t.Fatal(err)
	}
	want := followed{
		Schema: 1,
		Report: Report{Request: "r1.2", State: ReportFailed, Reason: "unhealthy", Class: "binary", At: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)},
		Order: Order{
			Rollout: "r1", Request: "r1.2", By: "ops", Action: ActRevert,
			Target:   Target{Config: &ConfigTarget{Scope: "group/web", Digest: "sha256:01"}},
			From:     Target{Release: releasePin("1.1.0"), Program: "demo"},
			Document: "/agents/rollout-document/default/01", Probation: time.Minute, GiveUp: time.Second, Retain: time.Hour,
		},
		Begun: "r1.2", Changed: "r1",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if data, err = os.ReadFile("testdata/followed-1-before.json"); err == nil {
		got, err = parseFollowed(data)
	}
	if want.Report.Before = []string{"disk", "spool"}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v\nwant %+v", got, err, want)
	}
	if _, err := parseFollowed([]byte(`{"schema":2}`)); err == nil {
		t.Error("a file of a later release was taken for one of this")
	}
}

// FuzzFollowed: what was damaged on the disk must not end an agent, and what is read
// must be what would be written.
func FuzzFollowed(f *testing.F) {
	for _, name := range []string{"followed-1.json", "followed-1-before.json"} {
		if data, err := os.ReadFile("testdata/" + name); err == nil {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := parseFollowed(data)
		if err != nil {
			return
		}
		written, err := json.Marshal(first)
		if err != nil {
			t.Skip() // a time out of range
		}
		second, err := parseFollowed(written)
		if err != nil || !reflect.DeepEqual(first, second) {
			t.Errorf("%v: %+v\nread again as %+v", err, first, second)
		}
	})
}
