package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/rollout"
)

// shaped is the plan that flags make, with its defaults.
func shaped(t *testing.T, args ...string) (rollout.Plan, error) {
	t.Helper()
	var s rolloutShape
	cmd := &cobra.Command{Use: "start"}
	s.add(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	p, _, err := s.build(cmd)
	return p, err
}

func stagesOf(t *testing.T, args ...string) string {
	t.Helper()
	p, err := shaped(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(p.Stages)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestFlagsMakeTheStagesThatTheySay: a flag that got lost would have a rollout go
// faster, or further, than its operator believes.
func TestFlagsMakeTheStagesThatTheySay(t *testing.T) {
	const (
		test       = `"name":"test","selector":"env=test","basis_points":500`
		production = `"name":"production","selector":"env=production","basis_points":3000`
		all        = `"name":"all","basis_points":10000`
		quarter    = `,"max_unavailable":{"basis_points":2500}`
	)
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"the default":   {nil, `[{` + test + `},{` + production + quarter + `},{` + all + quarter + `}]`},
		"canary, gates": {[]string{"--canary", "--gate", "--soak", "1m"}, `[{` + test + `,"soak_seconds":60},{` + production + quarter + `,"soak_seconds":60,"manual":true},{` + all + quarter + `,"soak_seconds":60,"manual":true}]`},
		"rolling":       {[]string{"--rolling"}, `[{` + all + `,"max_unavailable":{"basis_points":1000}}]`},
		"rolling, own limits": {
			[]string{"--rolling", "--batch", "5", "--max-unavailable", "2", "--max-surge", "1", "--pair-by", "pair"},
			`[{` + all + `,"batch":{"agents":5},"max_unavailable":{"agents":2},"pair_by":"pair","max_surge":{"agents":1}}]`,
		},
		"blue-green": {
			[]string{"--blue-green", "--batch", "10%", "--soak", "5m", "--gate", "--check", "http=http://x/"},
			`[{"name":"stage","basis_points":10000,"batch":{"basis_points":1000}},{"name":"switch","basis_points":10000,"soak_seconds":300,"manual":true,"judge":{"checks":[{"name":"http","kind":"http","url":"http://x/"}]}}]`,
		},
		"blue-green, stages of one's own": {
			[]string{"--blue-green", "--stage", "name=a,percent=10", "--stage", "name=b"},
			`[{"name":"a","basis_points":1000},{"name":"b","basis_points":10000},{"name":"switch","basis_points":10000,"soak_seconds":600}]`,
		},
		"what a stage says comes first": {
			[]string{"--stage", "name=a,soak=1m,batch=1,max_unavailable=3", "--stage", "name=b", "--soak", "2m", "--batch", "2", "--window", "1:00-2:00", "--success-above", "90", "--min-sample", "4", "--alerts", "none"},
			`[{"name":"a","basis_points":10000,"batch":{"agents":1},"max_unavailable":{"agents":3},"soak_seconds":60,"windows":[{"from":"1:00","to":"2:00"}],"judge":{"success_above_percent":90,"min_sample":4,"alert_severity":"none"}},` +
				`{"name":"b","basis_points":10000,"batch":{"agents":2},"soak_seconds":120,"windows":[{"from":"1:00","to":"2:00"}],"judge":{"success_above_percent":90,"min_sample":4,"alert_severity":"none"}}]`,
		},
	} {
		if got := stagesOf(t, c.args...); got != c.want {
			t.Errorf("%s: the stages are\n%s\nwant\n%s", name, got, c.want)
		}
		p, err := shaped(t, append(c.args, "--selector", "tier=web", "--on-failure", "halt", "--past-silent", "--deadline", "1m", "--retain", "1h", "--environment", "a,b")...)
		if err != nil {
			t.Fatal(err)
		}
		if p.Selector != "tier=web" || p.OnFailure != rollout.Halt || !p.PastSilent || p.Deadline != 60 || p.RetainFor != 3600 || strings.Join(p.Environments, " ") != "a b" {
			t.Errorf("%s: the plan is %+v", name, p)
		}
		p.Fleet, p.ID, p.Target.Config = "f", "r", &rollout.ConfigTarget{Scope: "global"}
		if p.Strategy == rollout.BlueGreen {
			p.Target = rollout.Target{}
			p.Target.Release.Version, p.Target.Release.Digest = "1.1.0", "sha256:"+strings.Repeat("0", 64)
		}
		if p = p.WithDefaults(); p.Validate() != nil {
			t.Errorf("%s: the plan cannot be followed: %v", name, p.Validate())
		}
	}
}

func TestPlanFileAndFlagsAboutStagesDoNotMix(t *testing.T) {
	file := writeFile(t, "schema: 1\nstrategy: rolling\nselector: a=b\non_failure: halt\npast_silent: true\ndeadline: 2m\nenvironments: [x]\nstages: [{name: one, batch: 3}]\n")
	p, err := shaped(t, "--plan", file, "--selector", "c=d")
	if err != nil {
		t.Fatal(err)
	}
	if p.Strategy != rollout.Rolling || p.Selector != "c=d" || p.OnFailure != rollout.Halt || !p.PastSilent || p.Deadline != 120 || len(p.Environments) != 1 || p.Stages[0].Batch.Agents != 3 {
		t.Errorf("the plan is %+v", p)
	}
	for _, flag := range stageFlags() {
		args := []string{"--plan", file, "--" + flag}
		switch flag {
		case "canary", "rolling", "blue-green", "gate":
		case "soak":
			args = append(args, "1m")
		default:
			args = append(args, "1")
		}
		if _, err := shaped(t, args...); err == nil || !strings.Contains(err.Error(), "--"+flag) {
			t.Errorf("--%s beside --plan: %v", flag, err)
		}
	}
}

func TestWebhookSecretsGoNowhereElse(t *testing.T) {
	secret := writeFile(t, "Bearer s3cret\n")
	for name, w := range map[string]webhookFlags{
		"over http":  {[]string{"http://x/hook"}, secret},
		"no URL":     {[]string{"x/hook?s3cret"}, ""},
		"not by web": {[]string{"file:///s3cret"}, ""},
		"nobody":     {nil, secret},
	} {
		if hooks, err := w.config(); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %+v, %v", name, hooks, err)
		}
	}
	w := webhookFlags{[]string{"https://x/hook"}, secret}
	if hooks, err := w.config(); err != nil || len(hooks) != 1 || hooks[0].AuthorizationFile != secret {
		t.Errorf("%+v, %v", hooks, err)
	}
}
