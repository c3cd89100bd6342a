package health

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"reflect"
	"testing"
	"time"
)

// goldenReport has every field set. Later versions must still read the file:
// another release of the same program reads it from the status key.
func goldenReport() Report {
	at := time.Date(2026, 11, 21, 22, 0, 0, 0, time.UTC)
	return Report{
		Schema: Schema, At: at, Live: true,
		Checks: []CheckReport{
			{Name: "registration", Kind: Readiness, Pushed: true, Error: "no answer from etcd", Since: at, At: at},
			{Name: "spool", Kind: Both, OK: true, Since: at, At: at, Duration: 0.0125},
			{Name: "upstream", Kind: Informative, Error: "has not run yet", Since: at},
		},
		Indicators: []IndicatorReport{
			{Name: HeartbeatLatency, Value: Number(math.Inf(1)), At: at, Unit: "seconds", Rule: "heartbeat", Threshold: 2, State: Firing, Since: at},
			{Name: MemoryPercent, Value: 41.5, Basis: "cgroup v2 /sys/fs/cgroup, limit 512.0 MiB", Unit: "percent", At: at, Rule: "memory", Threshold: 85, State: Inactive, Since: at},
			{Name: "queue", State: Unknown, Error: "no answer within 2s", ErrorAt: at},
		},
		Alerts: []Alert{{
			Name: "heartbeat", Indicator: HeartbeatLatency, State: Firing, Severity: Critical, Value: Number(math.Inf(1)),
			Threshold: 2, Unit: "seconds", Since: at, FiredAt: at, ResolvedAt: at, Count: 3,
		}},
	}
}

func TestReportKeepsItsFormat(t *testing.T) {
	golden, err := os.ReadFile("testdata/report-v1-alerts.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(goldenReport(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(append(got, '\n'), golden) {
		t.Errorf("the form of a Report has changed; a fleet of two releases must read both:\n%s", got)
	}
	var back Report
	if err := json.Unmarshal(golden, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, goldenReport()) {
		t.Errorf("read back: %+v", back)
	}
}

// TestEarlierReportsAreRead: before alerts had states, an indicator that was not
// above its threshold was "ok", and every alert told of was firing.
func TestEarlierReportsAreRead(t *testing.T) {
	golden, err := os.ReadFile("testdata/report-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal(golden, &got); err != nil {
		t.Fatal(err)
	}
	want := goldenReport()
	for n := range want.Indicators {
		i := &want.Indicators[n]
		i.Unit, i.Since, i.Error, i.ErrorAt = "", time.Time{}, "", time.Time{}
	}
	a := want.Alerts[0]
	want.Alerts[0] = Alert{Name: a.Name, Indicator: a.Indicator, Value: a.Value, Threshold: a.Threshold, Since: a.Since}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read: %+v\nwant: %+v", got, want)
	}
}

func TestNumberRefusesOtherText(t *testing.T) {
	for _, text := range []string{`"Inf"`, `"1"`, `"inf"`, `{}`, `[1]`, `true`, `1e999`} {
		var n Number
		if err := json.Unmarshal([]byte(text), &n); err == nil {
			t.Errorf("%s was taken for %v", text, n)
		}
	}
}

func FuzzReport(f *testing.F) {
	golden, err := os.ReadFile("testdata/report-v1.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add([]byte(`{"schema":1,"indicators":[{"value":"NaN","threshold":"-Inf"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Report
		if json.Unmarshal(data, &r) != nil {
			return
		}
		once, err := json.Marshal(r)
		if err != nil {
			t.Skip() // a year that JSON has no form for
		}
		var again Report
		if err := json.Unmarshal(once, &again); err != nil {
			t.Fatalf("what was written cannot be read: %v: %s", err, once)
		}
		twice, err := json.Marshal(again)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%v: %s became %s", err, once, twice)
		}
	})
}
