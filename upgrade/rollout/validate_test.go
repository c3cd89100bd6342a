package rollout_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/upgrade/release"
	. "github.com/perennial-go/perennial/upgrade/rollout"
)

func validPlan() Plan {
	p := releasePlan(DefaultCanary()...)
	p.ID = "r1"
	return p.WithDefaults()
}

func TestPlanThatCannotBeFollowedIsRefused(t *testing.T) {
	above := func(p float64) *float64 { return &p }
	for name, c := range map[string]struct {
		change func(*Plan)
		says   string
	}{
		"an id that leaves its key":   {func(p *Plan) { p.ID = "../x" }, "id"},
		"no target":                   {func(p *Plan) { p.Target = Target{} }, "release"},
		"a floating tag":              {func(p *Plan) { p.Target.Release.Version = "latest" }, "latest"},
		"both":                        {func(p *Plan) { p.Target.Config = &ConfigTarget{Scope: "global"} }, "not both"},
		"a scope that leaves its key": {func(p *Plan) { p.Target = Target{Config: &ConfigTarget{Scope: "group/../x"}} }, "scope"},
		"executables of no digest":    {func(p *Plan) { p.Binaries = map[string]string{"linux/amd64": "latest"} }, "binaries"},
		"executables of a document": {func(p *Plan) {
			p.Target, p.Binaries = Target{Config: &ConfigTarget{Scope: "global"}}, map[string]string{"linux/amd64": strings.Repeat("0", 64)}
		}, "binaries"},
		"an agent's scope":              {func(p *Plan) { p.Target = Target{Config: &ConfigTarget{Scope: "agent/a"}} }, "scope"},
		"a floating way back":           {func(p *Plan) { p.Previous.Release = release.Pin{Version: "1"} }, "previous"},
		"two stages of one name":        {func(p *Plan) { p.Stages[2].Name = p.Stages[0].Name }, "two stages are called"},
		"too many stages":               {func(p *Plan) { p.Stages = make([]Stage, 33) }, "33 stages"},
		"more than all":                 {func(p *Plan) { p.Stages[0].BasisPoints = 10001 }, "basis_points"},
		"nothing can be above it":       {func(p *Plan) { p.Stages[0].Judge.SuccessAbove = above(100) }, "below 100"},
		"a selector of what changes":    {func(p *Plan) { p.Selector = ".version=1" }, "version"},
		"a selector that does not end":  {func(p *Plan) { p.Stages[1].Selector = "a in (b" }, "production"},
		"two amounts":                   {func(p *Plan) { p.Stages[0].Batch = Amount{Agents: 1, BasisPoints: 1} }, "one of both"},
		"a surge of what is not paired": {func(p *Plan) { p.Stages[0].MaxSurge = Amount{Agents: 1} }, "pair_by"},
		"an endless soak":               {func(p *Plan) { p.Stages[0].Soak = 1e12 }, "soak_seconds"},
		"no deadline to speak of":       {func(p *Plan) { p.Deadline = -1 }, "deadline_seconds"},
		"a zone that there is not":      {func(p *Plan) { p.Stages[0].Windows = []Window{{From: "22:00", To: "04:00", Zone: "Mars/Olympus"}} }, "Mars"},
		"a zone that is each host's":    {func(p *Plan) { p.Stages[0].Windows = []Window{{From: "22:00", To: "04:00", Zone: "Local"}} }, "IANA"},
		"a day that there is not":       {func(p *Plan) { p.Stages[0].Windows = []Window{{From: "22:00", To: "04:00", Days: []string{"Montag"}}} }, "Montag"},
		"a time that there is not":      {func(p *Plan) { p.Stages[0].Windows = []Window{{From: "25:00", To: "04:00"}} }, "25:00"},
		"a check that asks a file": {func(p *Plan) {
			p.Stages[0].Judge.Checks = []Check{{Name: "a", Kind: "http", URL: "file:///etc/passwd"}}
		}, "http://"},
		"two checks of one name":           {func(p *Plan) { p.Stages[0].Judge.Checks = []Check{{Name: "a", Kind: "x"}, {Name: "a", Kind: "x"}} }, "two checks"},
		"a state from another age":         {func(p *Plan) { p.State = "dancing" }, "dancing"},
		"a stage that there is not":        {func(p *Plan) { p.Stage = 4 }, "do not fit"},
		"more marks than stages":           {func(p *Plan) { p.Cursor.Marks = make([]Mark, 4) }, "do not fit"},
		"a reason that moves the cursor":   {func(p *Plan) { p.Reason = "\x1b[2J" }, "control characters"},
		"blue-green without a switch":      {func(p *Plan) { p.Strategy, p.Stages = BlueGreen, p.Stages[:1] }, "last one that switches"},
		"blue-green that switches some":    {func(p *Plan) { p.Strategy, p.Stages[2].BasisPoints = BlueGreen, 5000 }, "switches all at once"},
		"a configuration cannot be staged": {func(p *Plan) { p.Strategy, p.Target = BlueGreen, Target{Config: &ConfigTarget{Scope: "global"}} }, "not staged"},
	} {
		p := validPlan()
		c.change(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	p := validPlan()
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsWrongWithEachStageIsToldOnce(t *testing.T) {
	p := validPlan()
	for i := range p.Stages {
		p.Stages[i].Windows = []Window{{From: "22:00", To: "04:00", Zone: "Mars/Olympus"}}
		p.Stages[i].Batch, p.Stages[i].MaxUnavailable = Amount{Agents: -1}, Amount{Agents: -2}
	}
	if err := p.Validate(); err == nil || strings.Count(err.Error(), "IANA") != 1 {
		t.Error(err)
	}
}

func TestDefaultsOfEachStrategyAreAPlan(t *testing.T) {
	for _, s := range []Strategy{"", Canary, Rolling, BlueGreen} {
		p := releasePlan()
		p.ID, p.Strategy = "r1", s
		stages := p.Stages
		full := p.WithDefaults()
		if err := full.Validate(); err != nil || len(stages) != 0 {
			t.Errorf("%q: %v", s, err)
		}
		if again := full.WithDefaults(); !reflect.DeepEqual(again, full) {
			t.Errorf("%q: defaults of defaults differ", s)
		}
	}
}

func TestPlanThatTwoReadersCouldReadDifferentlyIsRefused(t *testing.T) {
	good, err := json.Marshal(validPlan())
	if err != nil {
		t.Fatal(err)
	}
	if p, err := ParsePlan(good); err != nil || !reflect.DeepEqual(p, validPlan()) {
		t.Fatalf("%v\n%+v\n%+v", err, p, validPlan())
	}
	for name, c := range map[string]struct{ data, says string }{
		"twice":         {strings.Replace(string(good), `"id":"r1"`, `"id":"r1","ID":"r2"`, 1), "twice"},
		"newer schema":  {strings.Replace(string(good), `"schema":1`, `"schema":2`, 1), "schema 2"},
		"no schema":     {strings.Replace(string(good), `"schema":1,`, ``, 1), "schema 0"},
		"too large":     {`{"reason":"` + strings.Repeat("x", MaxPlanBytes) + `"}`, "at most"},
		"trailing":      {string(good) + "{}", "after"},
		"an empty plan": {`{}`, "schema"},
	} {
		if _, err := ParsePlan([]byte(c.data)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

// What is read can be decided about, whatever it says.
func FuzzPlan(f *testing.F) {
	for _, p := range []Plan{validPlan(), {Schema: 1}} {
		data, err := json.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, []byte(`{}`))
	}
	f.Add([]byte(`{"schema":1,"id":"r1","stages":[{"pair_by":"pair","batch":{"agents":1},"max_surge":{"agents":1}}],"target":{"config":{"scope":"global"}},"instruction":{"number":2,"action":"revert"},"cursor":{"as_of":9,"late":{"as_of":8},"marks":[{"open":true,"rank":"0000000000000001"}]}}`),
		[]byte(`{"rollout":"r1","number":2,"under_way":{"a0000":{"since":1,"stage":31},"b":{"since":-5,"stage":-1,"gone":9}},"lost":{"c":{"state":"gone","stage":99},"d":{"stage":-3,"state":"failed"}}}`))
	f.Fuzz(func(t *testing.T, plan, books []byte) {
		p, err := ParsePlan(plan)
		if err != nil {
			return
		}
		var b Books
		if json.Unmarshal(books, &b) != nil {
			return
		}
		d := &desk{t: t, rev: 10}
		for range 4 {
			d.join()
		}
		out, err := Decide(Input{Plan: p, Books: b, Snapshot: Snapshot{Revision: d.rev, Members: d.members}, Now: at(t, "2026-01-05T12:00:00Z")})
		if err != nil {
			t.Fatalf("it was read and cannot be followed: %v", err)
		}
		if err := out.Plan.Validate(); err != nil {
			t.Fatalf("what it becomes cannot be read: %v", err)
		}
	})
}
