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
		Over: digestOf(nil), Selector: `name="state"`, PastSilent: true, Binaries: map[string]string{"linux/amd64": strings.Repeat("0", 64)}, Stages: DefaultCanary(), State: Paused, Why: "asked <to> & told", Since: at,
		Instruction: Instruction{Number: 2, Action: ActSwitch, Probation: 60}, Stage: 1, StageSince: at, SoakSince: at, Promoted: 1,
		Cursor: Cursor{
			AsOf: 7, Marks: []Mark{{Open: true, Rank: 8}}, Late: Late{AsOf: 9, Mark: Mark{Open: true, Rank: LastRank}}, Unsure: true, Steps: []Step{{At: at, Agents: 3}},
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
	p := fullPlan()
	mark, step := p.Cursor.Marks[0], p.Cursor.Steps[0]
	for _, part := range []any{p, p.Instruction, p.Cursor, p.Cursor.Late, mark, step} {
		full := reflect.ValueOf(part)
		for i := range full.NumField() {
			if full.Field(i).IsZero() && !slices.Contains([]string{"Previous", "Environments"}, full.Type().Field(i).Name) {
				t.Fatalf("the plan does not set %s of %T", full.Type().Field(i).Name, part)
			}
		}
	}
	var r planReader
	if _, err := r.read([]byte(encoded(t, p))); err != nil {
		t.Fatal(err)
	}
	further := func(change func(p *Plan)) Plan {
		p := fullPlan()
		p.Cursor.Marks[0].Rank, p.Seq = 99, 11
		change(&p)
		return p
	}
	at := time.Now().Add(time.Hour) // with a zone, and parts of a second
	for name, p := range map[string]Plan{
		"all set":       further(func(*Plan) {}),
		"two marks":     further(func(p *Plan) { p.Cursor.Marks = append(p.Cursor.Marks, Mark{Rank: 1}) }),
		"two steps":     further(func(p *Plan) { p.Cursor.Steps = append(p.Cursor.Steps, Step{At: at, Agents: 4}) }),
		"late, no mark": further(func(p *Plan) { p.Cursor.Late.Mark = Mark{} }),
		"half a second": further(func(p *Plan) { p.Instruction.Probation = 0.5 }),
		"escapes":       further(func(p *Plan) { p.Why = `stage "canary" \ café: 🙂` }),
		"what may be left out": further(func(p *Plan) {
			p.State, p.Why, p.Promoted, p.History, p.Cursor = Running, "", 0, "", Cursor{}
			p.StageSince, p.SoakSince, p.Instruction.Probation = time.Time{}, time.Time{}, 0
		}),
	} {
		data := []byte(encoded(t, p))
		got := r.short(data)
		want, err := ParsePlan(data)
		if got == nil || err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s: %v: %+v\nwant %+v", name, err, got, want)
		}
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
		"a number with 0":  func(s string) string { return strings.Replace(s, `"seq":10`, `"seq":010`, 1) },
		"half a number":    func(s string) string { return strings.Replace(s, `"seq":10`, `"seq":10.5`, 1) },
		"a large number":   func(s string) string { return strings.Replace(s, `"seq":10`, `"seq":99999999999999999999`, 1) },
		"a short rank":     func(s string) string { return strings.Replace(s, `"rank":"0`, `"rank":"`, 1) },
		"two commas":       func(s string) string { return strings.Replace(s, `,"seq":10`, `,,"seq":10`, 1) },
		"no time":          func(s string) string { return strings.Replace(s, `"since":"2030-`, `"since":"1-`, 1) },
		"no seq":           func(s string) string { return strings.Replace(s, `,"seq":10`, ``, 1) },
		"a new member":     func(s string) string { return strings.Replace(s, `"as_of":7`, `"as_of":7,"newer":true`, 1) },
		"a line in why":    func(s string) string { return strings.Replace(s, `asked`, "asked\n", 1) },
		"a line in history": func(s string) string {
			return strings.Replace(s, `"history":"`, "\"history\":\"\n", 1)
		},
		"a line, escaped": func(s string) string { return strings.Replace(s, `asked`, `asked\n`, 1) },
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
			if r.short(data) != nil {
				t.Error("it was read the short way")
			}
			checkRead(t, &r, data)
		})
	}
}

// TestAPlanInAnotherOrderIsNeverReadTheShortWay: what moves would be there twice, or
// what does not would be taken from the plan before.
func TestAPlanInAnotherOrderIsNeverReadTheShortWay(t *testing.T) {
	first := encoded(t, fullPlan())
	at := movesFrom([]byte(first))
	fixed, moving := first[len("{"):at-len(",")], first[at:len(first)-len("}")]
	for name, values := range map[string][2]string{
		"what moves comes first":   {"{" + moving + "," + fixed + "}", "{" + moving + "}"},
		"another case before":      {`{"Why":"x",` + fixed + "," + strings.Replace(moving, `"why":"asked <to> & told",`, "", 1) + "}", `{"Why":"x",` + fixed + "," + moving + "}"},
		"a member that is unknown": {`{"newer":1,` + fixed + "," + moving + "}", `{"newer":1,` + fixed + "," + moving + "}"},
	} {
		t.Run(name, func(t *testing.T) {
			var r planReader
			if _, err := r.read([]byte(values[0])); err != nil {
				t.Fatal(err)
			}
			checkRead(t, &r, []byte(values[1]))
		})
	}
}

// checkRead compares what r reads with what ParsePlan does.
func checkRead(t *testing.T, r *planReader, data []byte) {
	t.Helper()
	got, err := r.read(data)
	want, wantErr := ParsePlan(data)
	if (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v, %v\nwant %+v, %v", got, err, want, wantErr)
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
		checkRead(t, &r, b)
	})
}
