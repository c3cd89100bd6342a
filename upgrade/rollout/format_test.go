package rollout

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// values are what the golden files hold.
func values() map[string]any {
	at := func(s int) time.Time { return time.Date(2030, 1, 2, 3, 4, s, 0, time.UTC) }
	above := 99.9
	figures := Figures{Agents: 40, Target: 20, Admitted: 12, Waiting: 1, UnderWay: 2, Succeeded: 4, Failed: 1, Silent: 1, Gone: 2, Held: 1, Late: 3, Unavailable: 4, Rate: 66.7}
	plan := Plan{
		Schema: 1, Fleet: "default", ID: "20300102-030405-abcdef", By: "alice", Reason: "1.1.0 is out", Created: at(5),
		Strategy: Canary, Target: Target{Release: pinned("1.1.0"), Program: "agent", Asked: "~1.1"},
		Previous: Target{Release: pinned("1.0.0"), Program: "agent"}, Selector: ".group=web",
		Stages: []Stage{
			{
				Name: "test", Selector: "env=test", BasisPoints: 500, Batch: Amount{Agents: 10}, MaxUnavailable: Amount{BasisPoints: 1000},
				PairBy: "rack", MaxSurge: Amount{Agents: 1}, Soak: 60, Manual: true,
				Windows: []Window{{Days: []string{"mon", "fri"}, From: "22:00", To: "04:00", Zone: "Europe/Berlin"}},
				Judge: Judge{SuccessAbove: &above, MinSample: 3, AlertSeverity: "warning", Checks: []Check{
					{Name: "errors", Kind: "prometheus", URL: "http://prometheus:9090", Query: "errors < 1", Timeout: 5, Attempts: 2},
				}},
			},
			Stage{Name: "all"}.withDefaults(1),
		},
		OnFailure: Halt, PastSilent: true, Deadline: 900, RetainFor: 3600, Environments: []string{"test"},
		State: Running, Why: "stage test begins", Since: at(6), Instruction: Instruction{Number: 2, Action: ActSwitch, Probation: 120},
		Stage: 1, StageSince: at(7), SoakSince: at(8), Promoted: 1,
		Cursor: Cursor{AsOf: 70, Marks: []Mark{{Open: true, Rank: 0x0123456789abcdef}}, Late: Late{AsOf: 80, Mark: Mark{Open: true, Rank: LastRank}}, Unsure: true, Steps: []Step{{At: at(9), Agents: 4}}},
		Seq:    5, History: digestOf([]byte("record")),
	}
	first := plan
	first.Seq, first.History = 1, ""
	document := plan
	document.Target = Target{Config: &ConfigTarget{Scope: "group/web", Digest: digestOf([]byte("a: 2\n"))}}
	document.Previous, document.Over = Target{Config: &ConfigTarget{Scope: "group/web"}}, digestOf([]byte("a: 1\n"))
	return map[string]any{
		"plan":          &plan,
		"plan-document": &document,
		"record": &Record{
			Schema: 1, Fleet: "default", Rollout: plan.ID, Seq: 5, Before: digestOf([]byte("before")), At: at(9), By: "controller web-1",
			Event: EventAdmitted, Why: "4 agents more", Figures: figures, State: Running, Stage: 1,
		},
		"record-first": &Record{
			Schema: 1, Fleet: "default", Rollout: plan.ID, Seq: 1, At: at(5), By: "alice", Event: EventStarted, Why: "1.1.0 is out", State: Running, Plan: &first,
		},
		"books": &Books{
			Schema: 1, Rollout: plan.ID, Number: 2,
			UnderWay: map[string]Entrant{"web-2": {Since: at(1), Stage: 1, Started: true, Ended: at(2), Gone: at(3), Pair: "r1"}},
			Former:   map[string]Entrant{"web-4": {Since: at(1), Request: plan.ID + ".1"}},
			Lost:     map[string]Loss{"web-3": {State: "failed", Reason: "it does not start", At: at(2), Stage: 1}},
			Figures:  figures, Stages: []Figures{figures}, Told: 4, Waits: "stage all soaks", Stopped: at(4),
		},
		"freeze":         &Freeze{Schema: 1, By: "carol", Reason: "the database is down", At: at(1), Reverts: true},
		"leader":         &Leader{Schema: 1, ID: "web-1", Since: at(0)},
		"leader-trouble": &Leader{Schema: 1, ID: "web-1", Since: at(0), Trouble: "the books cannot be read"},
	}
}

func golden(tb testing.TB, name string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", strings.Replace(name, "-", "-1-", 1)+map[bool]string{true: ".json", false: "-1.json"}[strings.Contains(name, "-")]))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// readAs reads a value as what it is.
func readAs(into any, data []byte) (any, error) {
	if _, ok := into.(*Plan); ok {
		p, err := ParsePlan(data)
		return &p, err
	}
	got := reflect.New(reflect.TypeOf(into).Elem()).Interface()
	return got, decode("value", data, maxBooks, got)
}

func TestValuesOfSchema1AreStillReadAndWritten(t *testing.T) {
	for name, want := range values() {
		data := golden(t, name)
		got, err := readAs(want, data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is read as\n%+v, want\n%+v", name, got, want)
		}
		if written, err := encode(want); err != nil || written != string(data) {
			t.Errorf("%s is written as\n%s, %v, want\n%s", name, written, err, data)
		}
	}
}

func TestValueOfALaterVersionIsRefusedAndAnUnknownMemberIsNot(t *testing.T) {
	for name, want := range values() {
		text := string(golden(t, name))
		if _, err := readAs(want, []byte(strings.Replace(text, `"schema":1`, `"schema":1,"later":{"x":[1]}`, 1))); err != nil {
			t.Errorf("%s with a member that is not known: %v", name, err)
		}
		for what, data := range map[string]string{
			"later": strings.Replace(text, `"schema":1`, `"schema":2`, 1), "cut": text[:len(text)/2], "none": "", "a list": "[]",
			"twice": strings.Replace(text, `"schema":1`, `"schema":1,"Schema":1`, 1), "large": text + strings.Repeat(" ", maxBooks),
		} {
			if _, err := readAs(want, []byte(data)); err == nil {
				t.Errorf("%s, %s: it is read", name, what)
			} else if _, plan := want.(*Plan); what == "later" && !plan && !errors.Is(err, ErrSchema) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
}

// FuzzRecordOfTheHistory: whatever lies there is shown, and never taken for a
// whole chain twice.
func FuzzRecordOfTheHistory(f *testing.F) {
	for _, name := range []string{"record", "record-first", "books", "freeze", "leader"} {
		f.Add(golden(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, into := range []any{&Record{}, &Books{}, &Freeze{}, &Leader{}} {
			got, err := readAs(into, data)
			if err != nil {
				continue
			}
			written, err := encode(got)
			if err != nil {
				t.Fatalf("what was read cannot be written: %v", err)
			}
			if again, err := readAs(into, []byte(written)); err != nil || len(written) <= maxBooks && !reflect.DeepEqual(again, got) {
				t.Errorf("%T is read as %+v, then %+v: %v", into, got, again, err)
			}
		}
	})
}
