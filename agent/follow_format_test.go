package agent

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/health"
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
	over, err := parseOverlay(golden(t, "overlay-1-over.json"))
	if want.Over = 17; err != nil || !reflect.DeepEqual(over.Documents["group/web"], want) {
		t.Errorf("%+v, %v, want %+v", over, err, want)
	}
	for _, bad := range []string{"", "{", `{"schema":2}`, `{"schema":1,"documents":{"everybody":{"data":"YQ=="}}}`, `{"schema":1,"documents":{"global":{}}}`} {
		if _, err := parseOverlay([]byte(bad)); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

// FuzzOverlay: what was damaged on the disk must not end an agent, and what is read
// must be what would be written.
func FuzzOverlay(f *testing.F) {
	f.Add(golden(f, "overlay-1.json"))
	f.Add(golden(f, "overlay-1-over.json"))
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
	if s.Rollout == nil || !reflect.DeepEqual(*s.Rollout, want) || s.RolloutError == "" {
		t.Errorf("%+v, %q; want %+v", s.Rollout, s.RolloutError, want)
	}
	if err := decode("status", golden(t, "status-1.json"), &s); err != nil {
		t.Fatal(err)
	}
}

// TestFleetOfARegistrationIsStillRead: a controller of another release would count the
// agent in no rollout.
func TestFleetOfARegistrationIsStillRead(t *testing.T) {
	var r, before Registration
	data := golden(t, "registration-1-fleet.json")
	if err := decode("registration", data, &r); err != nil || r.Fleet != "edge" {
		t.Errorf("fleet %q, %v", r.Fleet, err)
	}
	if written := encoded(t, r); written != strings.TrimSpace(string(data)) {
		t.Errorf("it is written as\n%s, want\n%s", written, data)
	}
	if err := decode("registration", golden(t, "registration-1-presence.json"), &before); err != nil || before.Fleet != "" {
		t.Errorf("that of an older release is in fleet %q, %v", before.Fleet, err)
	}
}

// TestFailedChecksAndAlertsAreSeenByARollout, but for what is not about the release: it
// would pass while its agents are not ready, or an outage of etcd would take it back.
func TestFailedChecksAndAlertsAreSeenByARollout(t *testing.T) {
	at := time.Now()
	e := &Entry{Status: &Status{At: at.Add(3 * time.Second), Health: health.Report{Checks: []health.CheckReport{
		{Name: "spool", Kind: health.Readiness, At: at, Since: at},
		{Name: "fine", Kind: health.Readiness, OK: true, At: at, Since: at},
		{Name: "unasked", Kind: health.Readiness, Since: at},
		{Name: "hint", Kind: health.Informative, At: at, Since: at},
		{Name: conditionRegistration, Kind: health.Readiness, At: at, Since: at},
	}, Alerts: []health.Alert{
		{Name: "disk", Indicator: health.DiskUsedPercent, Severity: health.Critical, Since: at},
		{Name: "heartbeat", Indicator: health.HeartbeatLatency, Severity: health.Critical, Since: at},
		{Name: health.EtcdStale, Indicator: health.EtcdStale, Severity: health.Warning, Since: at},
	}}}}
	want := []rollout.Alert{
		{Name: "disk", Severity: "critical", Since: at, Lasted: 3 * time.Second},
		{Check: true, Name: "spool", Severity: "critical", Since: at, Lasted: 3 * time.Second},
	}
	if got := RolloutMember(e, at).Alerts; !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestAnAgentIsCountedInItsOwnFleetAlone: one that follows no plan, or another's, would be
// silent, and fail every rollout whose selector takes it.
func TestAnAgentIsCountedInItsOwnFleetAlone(t *testing.T) {
	s := &Snapshot{}
	for i, fleet := range []string{"default", "", "edge"} { // by id, as snapshots have them
		s.entries = append(s.entries, &Entry{Registration: Registration{ID: fmt.Sprint("a", i+1), Fleet: fleet}, Status: &Status{}})
	}
	ids := func(all []*rollout.Member) string {
		var ids []string
		for _, m := range all {
			ids = append(ids, m.ID)
		}
		slices.Sort(ids)
		return strings.Join(ids, " ")
	}
	for fleet, want := range map[string][2]string{"default": {"a1", "a2"}, "edge": {"a3", "a2"}, "": {"a1 a2 a3", ""}} {
		m := members{fleet: fleet}
		all, news := m.take(s, time.Now(), time.Time{})
		if got := [2]string{ids(all.Members), ids(all.Apart)}; got != want || !news {
			t.Errorf("fleet %q has %q, want %q", fleet, got, want)
		}
		if _, news := m.take(s, time.Now(), time.Time{}); news {
			t.Errorf("fleet %q: the same again is news", fleet)
		}
	}
}

// TestWhatIsWrongBeforeAChangeIsNamed: it would count against the change, also what has
// fired in the process before and is pending in this one.
func TestWhatIsWrongBeforeAChangeIsNamed(t *testing.T) {
	at := time.Now()
	h := health.Report{Checks: []health.CheckReport{
		{Name: "spool", Kind: health.Readiness, At: at, Since: at},
		{Name: "fine", Kind: health.Readiness, OK: true, At: at, Since: at},
	}, Alerts: []health.Alert{
		{Name: "cpu", Indicator: "cpu_percent", Severity: health.Warning, Since: at},
		{Name: "disk", Indicator: health.DiskUsedPercent, Severity: health.Critical, Since: at},
		{Name: health.EtcdStale, Indicator: health.EtcdStale, Severity: health.Warning, Since: at},
	}, Indicators: []health.IndicatorReport{
		{Name: health.DiskUsedPercent, Rule: "disk", State: health.Firing},
		{Name: health.OpenFilesPercent, Rule: "files", State: health.Pending},
	}}
	if got, want := alarmNames(h), []string{"disk", "spool", "cpu", "files"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
