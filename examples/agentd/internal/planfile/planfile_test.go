package planfile_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/examples/agentd/internal/planfile"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// TestEveryFieldOfAPlanFileGetsIntoThePlan: one that got lost would have a rollout
// go another way than it was written down.
func TestEveryFieldOfAPlanFileGetsIntoThePlan(t *testing.T) {
	data, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f, err := planfile.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	var p rollout.Plan
	if err := f.Apply(&p); err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(struct {
		Version string
		Config  *planfile.Config
		Plan    rollout.Plan
	}{f.Version, f.Config, p}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/full.json")
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(want)) != string(got) {
		t.Errorf("the plan is\n%s\nwant\n%s", got, want)
	}
}

// TestPlanFileThatCouldMeanSomethingElseIsRefused, with where it is wrong.
func TestPlanFileThatCouldMeanSomethingElseIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ text, says string }{
		"empty":               {"", "schema: 1"},
		"no schema":           {"strategy: canary", "found none"},
		"later schema":        {"schema: 2\nnews: 1", "found 2"},
		"unknown field":       {"schema: 1\nstratgy: canary", "line 2: field stratgy is not known here"},
		"unknown in a stage":  {"schema: 1\nstages: [{name: a, prcent: 5}]", "prcent"},
		"twice":               {"schema: 1\nschema: 1", "already defined"},
		"two documents":       {"schema: 1\n---\nschema: 1", "one YAML document"},
		"alias":               {"schema: 1\nselector: &a x\nreason: *a", "aliases"},
		"no number":           {"schema: 1\nstages: [{min_sample: many}]", "want a number, found `many`"},
		"a list of names":     {"schema: 1\nstages: [{name: [a]}]", "want a text, found a list"},
		"no stages":           {"schema: 1\nstages: 3", "want a list, found `3`"},
		"no stage":            {"schema: 1\nstages: [x]", "want a mapping, found `x`"},
		"list":                {"[1]", "mapping"},
		"no YAML":             {"a: b: c", "YAML"},
		"deep":                {"schema: 1\nstages: " + strings.Repeat("[", 20) + strings.Repeat("]", 20), "deeper"},
		"too long":            {"schema: 1\nreason: " + strings.Repeat("x", planfile.MaxBytes), "at most"},
		"no time":             {"schema: 1\ndeadline: 0s", "deadline: want a duration of more than 0"},
		"less than no time":   {"schema: 1\ndeadline: -1s", "deadline"},
		"time without a unit": {"schema: 1\ndeadline: 10", "want a duration such as 10m, found `10`"},
		"percent of nothing":  {"schema: 1\nstages: [{percent: 0}]", "percent"},
		"a part of an agent":  {"schema: 1\nstages: [{batch: 1.5}]", "batch"},
		"no window":           {"schema: 1\nstages: [{windows: [nightly]}]", "stage 1: windows"},
		"check of two kinds":  {"schema: 1\nstages: [{name: a, checks: [{http: x, prometheus: y, query: z}]}]", "stage a: check 1"},
		"check without query": {"schema: 1\nstages: [{checks: [{prometheus: y}]}]", "query"},
	} {
		f, err := planfile.Parse([]byte(c.text))
		if err == nil {
			err = f.Apply(new(rollout.Plan))
		}
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "planfile.") {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestStageOfAFlagSaysTheSameAsOneOfAFile(t *testing.T) {
	flag, err := planfile.ParseStage(`name=web,"selector=env in (a,b),zone=x",percent=0.5,batch=10,max-unavailable=5%,pair-by=pair,max-surge=1,soak=10m,gate=true,window=Sat 01:00-05:00,window=Sun 01:00-05:00,success-above=0,min-sample=3,alerts=none`)
	if err != nil {
		t.Fatal(err)
	}
	f, err := planfile.Parse([]byte(`
schema: 1
stages:
  - {name: web, selector: "env in (a,b),zone=x", percent: 0.5, batch: 10, max_unavailable: 5%, pair_by: pair, max_surge: 1,
     soak: 10m, gate: true, windows: ["Sat 01:00-05:00", "Sun 01:00-05:00"], success_above: 0, min_sample: 3, alerts: none}`))
	if err != nil {
		t.Fatal(err)
	}
	var p rollout.Plan
	if err := f.Apply(&p); err != nil {
		t.Fatal(err)
	}
	if a, b := asJSON(t, flag), asJSON(t, p.Stages[0]); a != b {
		t.Errorf("by flag %s\nby file %s", a, b)
	}
	for _, text := range []string{"", "web", "name=a,name=b", "selector=env in (a,b)", "checks=x", "percent=101", "soak=5", "gate=perhaps", "name=a\nname=b", `"name=a`} {
		if s, err := planfile.ParseStage(text); err == nil {
			t.Errorf("%q is %+v, want an error", text, s)
		}
	}
}

func TestPartsOfAFleetAreExactToAHundredthOfAPercent(t *testing.T) {
	for text, want := range map[string]int{"0.01": 1, "0.1": 10, "5": 500, "5%": 500, "5 %": 500, "12.34%": 1234, "100": 10_000, "99.99": 9999, "007": 700} {
		if got, err := planfile.ParsePercent(text); err != nil || got != want {
			t.Errorf("%q is %d hundredths of a percent (%v), want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "%", "0", "0.00", "0.001", "5.", ".5", "100.01", "101", "256", "-1", "+5", "5e1", "5,5", "five"} {
		if got, err := planfile.ParsePercent(text); err == nil {
			t.Errorf("%q is %d, want an error", text, got)
		}
	}
	for text, want := range map[string]rollout.Amount{"": {}, "5": {Agents: 5}, "5%": {BasisPoints: 500}} {
		if got, err := planfile.ParseAmount(text); err != nil || got != want {
			t.Errorf("%q is %+v (%v), want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"0", "-1", "1.5", "many", "0%", "99999999999"} {
		if got, err := planfile.ParseAmount(text); err == nil {
			t.Errorf("%q is %+v, want an error", text, got)
		}
	}
}

func TestWindowsAreReadAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]string{
		"Mon-Fri 22:00-04:00 Europe/Berlin": `{"days":["mon","tue","wed","thu","fri"],"from":"22:00","to":"04:00","zone":"Europe/Berlin"}`,
		"Sat-Mon,wed 1:00-2:00":             `{"days":["sat","sun","mon","wed"],"from":"1:00","to":"2:00"}`,
		"22:00-04:00":                       `{"from":"22:00","to":"04:00"}`,
		"22:00-04:00 UTC":                   `{"from":"22:00","to":"04:00","zone":"UTC"}`,
	} {
		w, err := planfile.ParseWindow(text)
		if got := asJSON(t, w); err != nil || got != want {
			t.Errorf("%q is %s (%v), want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "Mon", "Mon-", "Mon-Friday 1:00-2:00", "1:00", "Mon 1:00-2:00 UTC x", "1:00-2:00 UTC x"} {
		if w, err := planfile.ParseWindow(text); err == nil {
			t.Errorf("%q is %+v, want an error", text, w)
		}
	}
}

func TestChecksOfFlagsAreOfAKind(t *testing.T) {
	for text, want := range map[string]string{
		"prometheus=http://p:9090,sum(rate(errors[5m])) < bool 1, x": `{"name":"","kind":"prometheus","url":"http://p:9090","query":"sum(rate(errors[5m])) \u003c bool 1, x"}`,
		"http=https://x/ok?a=b": `{"name":"","kind":"http","url":"https://x/ok?a=b"}`,
		"mine":                  `{"name":"","kind":"mine"}`,
	} {
		c, err := planfile.ParseCheck(text)
		if got := asJSON(t, c); err != nil || got != want {
			t.Errorf("%q is %s (%v), want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "prometheus=http://p:9090", "prometheus=,up", "http="} {
		if c, err := planfile.ParseCheck(text); err == nil {
			t.Errorf("%q is %+v, want an error", text, c)
		}
	}
}

// FuzzParse: no file makes it crash, and none that it takes has stages that a
// plan could not say.
func FuzzParse(f *testing.F) {
	full, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Add([]byte("schema: 1\nstages: [{percent: 5%, windows: ['Mon 1:00-2:00']}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := planfile.Parse(data)
		if err != nil {
			return
		}
		var p rollout.Plan
		if file.Apply(&p) != nil {
			return
		}
		for _, s := range p.Stages {
			if s.BasisPoints < 1 || s.BasisPoints > 10_000 || s.Soak < 0 || s.Batch.Agents < 0 {
				t.Errorf("%+v", s)
			}
		}
	})
}

// FuzzFlags: no text of a flag makes it crash.
func FuzzFlags(f *testing.F) {
	for _, text := range []string{"name=a,percent=5", "Mon-Fri 22:00-04:00 UTC", "prometheus=u,q", "5.5%"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = planfile.ParseStage(text)
		_, _ = planfile.ParseCheck(text)
		if w, err := planfile.ParseWindow(text); err == nil && w.From+w.To == "" && !strings.Contains(text, "-") {
			t.Errorf("%q is %+v", text, w)
		}
		if a, err := planfile.ParseAmount(text); err == nil && (a.Agents < 0 || a.BasisPoints < 0 || a.BasisPoints > 10_000) {
			t.Errorf("%q is %+v", text, a)
		}
	})
}
