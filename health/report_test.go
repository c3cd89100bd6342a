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
			{Name: HeartbeatLatency, Value: Number(math.Inf(1)), At: at, Rule: "heartbeat", Threshold: 2, State: Firing},
			{Name: MemoryPercent, Value: 41.5, Basis: "cgroup v2 /sys/fs/cgroup, limit 512.0 MiB", At: at, Rule: "memory", Threshold: 85, State: OK},
			{Name: "queue", State: Unknown},
		},
		Alerts: []Alert{{Name: "heartbeat", Indicator: HeartbeatLatency, Value: Number(math.Inf(1)), Threshold: 2, Since: at}},
	}
}

func TestReportKeepsItsFormat(t *testing.T) {
	golden, err := os.ReadFile("testdata/report-v1.json")
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
