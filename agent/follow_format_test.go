package agent

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/upgrade/rollout"
)

// TestOverlayOfSchema1IsStillRead: a successor of another release would go back to the
// published document in the middle of a rollout.
func TestOverlayOfSchema1IsStillRead(t *testing.T) {
	got, err := parseOverlay(golden(t, "overlay-1.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := overlaid{Rollout: "r1", Revision: 42, Data: []byte("greeting: rolled out\n"), Yields: true}
	if len(got.Documents) != 1 || !reflect.DeepEqual(got.Documents["group/web"], want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	got, err = parseOverlay(golden(t, "overlay-1-hides.json"))
	want = overlaid{Rollout: "r1", Hides: "sha256:" + strings.Repeat("ab", 32)}
	if err != nil || !reflect.DeepEqual(got.Documents["global"], want) {
		t.Errorf("%v: %+v, want %+v", err, got, want)
	}
	for _, bad := range []string{
		"", "{", `{"schema":2}`, `{"schema":1,"documents":{"everybody":{"data":"YQ=="}}}`, `{"schema":1,"documents":{"global":{}}}`,
		`{"schema":1,"documents":{"global":{"data":"YQ==","hides":"sha256:ab"}}}`,
	} {
		if _, err := parseOverlay([]byte(bad)); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

// FuzzOverlay: what was damaged on the disk must not end an agent, and what is read
// must be what would be written.
func FuzzOverlay(f *testing.F) {
	f.Add(golden(f, "overlay-1.json"))
	f.Add(golden(f, "overlay-1-hides.json"))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := parseOverlay(data)
		if err != nil {
			return
		}
		written, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := parseOverlay(written); err != nil || !reflect.DeepEqual(first, second) {
			t.Errorf("%v: %+v\nread again as %+v", err, first, second)
		}
	})
}

// TestReportOfSchema1IsStillRead: a controller of another release would take the agents
// of this one for silent.
func TestReportOfSchema1IsStillRead(t *testing.T) {
	var s Status
	if err := decode("status", golden(t, "status-1-rollout.json"), &s); err != nil {
		t.Fatal(err)
	}
	want := rollout.Report{
		Request: "r1.1", State: rollout.ReportFailed, Reason: "the successor is not healthy", Class: "binary",
		At: time.Date(2030, 1, 2, 3, 4, 5, 6_000_000, time.UTC),
	}
	if s.Rollout == nil || *s.Rollout != want || s.RolloutError == "" {
		t.Errorf("%+v, %q; want %+v", s.Rollout, s.RolloutError, want)
	}
	if err := decode("status", golden(t, "status-1.json"), &s); err != nil {
		t.Fatal(err)
	}
}

// TestAnAgentThatFollowsNoPlanIsCountedInNone: it would be silent, and fail every rollout.
func TestAnAgentThatFollowsNoPlanIsCountedInNone(t *testing.T) {
	follows := &Entry{Registration: Registration{ID: "a1"}, Status: &Status{}}
	off := &Entry{Registration: Registration{ID: "a2"}, Status: &Status{RolloutsOff: true}}
	m := members{of: map[*Entry]*rollout.Member{}}
	s := &Snapshot{entries: []*Entry{follows, off}}
	if all, _ := m.take(s, time.Now()); len(all) != 1 || all[0].ID != "a1" {
		t.Errorf("%+v", all)
	}
	if _, news := m.take(s, time.Now()); news {
		t.Error("the same again is news")
	}
}
