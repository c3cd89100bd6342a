package rollout

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// fullPlan is a plan in which all that moves is set.
func fullPlan() Plan {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	return Plan{
		ID: "r1", By: "ops", Reason: `why "state": not`, Created: at, Target: Target{Release: releasePin("1.1.0"), Program: "demo"},
		Over: digestOf(nil), Selector: `name="state"`, Binaries: map[string]string{"linux/amd64": strings.Repeat("0", 64)}, Stages: DefaultCanary(), State: Paused, Why: "asked <to> & told", Since: at,
		Instruction: Instruction{Number: 2, Action: ActSwitch, Probation: 60}, Stage: 1, StageSince: at, SoakSince: at, Promoted: 1,
		Cursor: Cursor{
			AsOf: 7, Marks: []Mark{{Open: true, Rank: 8}}, Late: Late{AsOf: 9, Mark: Mark{Open: true, Rank: LastRank}}, Steps: []Step{{At: at, Agents: 3}},
		},
		Seq: 10, History: "sha256:" + strings.Repeat("0", 64),
	}.WithDefaults()
}

func encoded(tb testing.TB, p Plan) string {
	tb.Helper()
	text, err := encode(p)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// TestAPlanThatMovesIsReadTheShortWay: what a Plan is given that moves would else slow all
// agents of a fleet down, and nobody would see it.
func TestAPlanThatMovesIsReadTheShortWay(t *testing.T) {
	full := reflect.ValueOf(fullPlan())
	for i := range full.NumField() {
		if full.Field(i).IsZero() && !slices.Contains([]string{"Previous", "Environments"}, full.Type().Field(i).Name) {
			t.Fatalf("the plan does not set %s", full.Type().Field(i).Name)
		}
	}
	var r planReader
	p := fullPlan()
	if _, err := r.read([]byte(encoded(t, p))); err != nil {
		t.Fatal(err)
	}
	p.Cursor.Marks[0].Rank, p.Seq, p.State, p.Why = 99, 11, Running, ""
	data := []byte(encoded(t, p))
	got, short := r.short(data)
	want, err := ParsePlan(data)
	if !short || err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("short %v, %v: %+v\nwant %+v", short, err, got, want)
	}
}

// TestWhatIsNotTheSamePlanFurtherOnIsReadInFull: agents and controllers would else
// understand the same value differently.
func TestWhatIsNotTheSamePlanFurtherOnIsReadInFull(t *testing.T) {
	first := encoded(t, fullPlan())
	for name, change := range map[string]func(s string) string{
		"another target":   func(s string) string { return strings.Replace(s, `"version":"1.1.0"`, `"version":"1.1.1"`, 1) },
		"a member twice":   func(s string) string { return strings.Replace(s, `"seq":10`, `"seq":10,"seq":11`, 1) },
		"a second target":  func(s string) string { return strings.Replace(s, `"seq":10`, `"seq":10,"target":{}`, 1) },
		"an unknown state": func(s string) string { return strings.Replace(s, `"paused"`, `"confused"`, 1) },
		"another case":     func(s string) string { return strings.Replace(s, `"seq":10`, `"Seq":10`, 1) },
		"a negative seq":   func(s string) string { return strings.Replace(s, `"seq":10`, `"seq":-1`, 1) },
		"spaces":           func(s string) string { return strings.Replace(s, `"seq":10`, `"seq": 10`, 1) },
		"something behind": func(s string) string { return s + "{}" },
		"cut off":          func(s string) string { return s[:len(s)-1] },
	} {
		t.Run(name, func(t *testing.T) {
			var r planReader
			if _, err := r.read([]byte(first)); err != nil {
				t.Fatal(err)
			}
			data := []byte(change(first))
			if string(data) == first {
				t.Fatal("nothing was changed")
			}
			if _, short := r.short(data); short {
				t.Error("it was read the short way")
			}
			got, err := r.read(data)
			want, wantErr := ParsePlan(data)
			if (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(got, want) {
				t.Errorf("%+v, %v\nwant %+v, %v", got, err, want, wantErr)
			}
		})
	}
}

// FuzzPlanReader: whatever was read before, a plan means what ParsePlan says.
func FuzzPlanReader(f *testing.F) {
	one := fullPlan()
	two := fullPlan()
	two.Cursor.Marks[0].Rank = 77
	a, errA := json.Marshal(one)
	b, errB := json.Marshal(two)
	if errA != nil || errB != nil {
		f.Fatal(errA, errB)
	}
	f.Add(a, b)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var r planReader
		_, _ = r.read(a)
		got, err := r.read(b)
		want, wantErr := ParsePlan(b)
		if (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v\nwant %+v, %v", got, err, want, wantErr)
		}
	})
}
