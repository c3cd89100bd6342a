package main

import (
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// registered is an agent that could take release 1.1.0.
func registered(id string) agent.Entry {
	e := agent.Entry{Status: &agent.Status{}}
	e.ID, e.Fleet, e.Version, e.Platform, e.Labels = id, "default", "1.0.0", "linux/amd64", map[string]string{"env": "test"}
	e.Status.Upgrade.Program = "agentd"
	return e
}

func TestRolloutThatAgentsWouldRefuseIsNotBegun(t *testing.T) {
	manifest := &release.Manifest{Version: "1.1.0", Platforms: []release.Platform{{OS: "linux", Arch: "amd64"}}}
	manifest.Requires.PluginAPI = "7" // of which the registry tells nothing
	target := "sha256:" + strings.Repeat("ab", 32)
	for name, c := range map[string]struct {
		change func(*agent.Entry, *startCheck)
		says   string
	}{
		"nothing is wrong":   {func(*agent.Entry, *startCheck) {}, ""},
		"another program":    {func(e *agent.Entry, _ *startCheck) { e.Status.Upgrade.Program = "shop" }, "they run shop"},
		"another platform":   {func(e *agent.Entry, _ *startCheck) { e.Platform = "darwin/arm64" }, "no binary for darwin/arm64"},
		"a downgrade":        {func(e *agent.Entry, _ *startCheck) { e.Version = "1.2.0" }, "1.2.0 runs, 1.1.0 is older"},
		"a major version":    {func(e *agent.Entry, _ *startCheck) { e.Version = "0.9.0" }, "another major version"},
		"which is allowed":   {func(e *agent.Entry, c *startCheck) { e.Version, c.policy.AllowMajor = "0.9.0", true }, ""},
		"runs it already":    {func(e *agent.Entry, _ *startCheck) { e.Version, e.ManifestDigest = "1.1.0", target }, ""},
		"built by hand":      {func(e *agent.Entry, _ *startCheck) { e.Version = "dev" }, ""},
		"without a status":   {func(e *agent.Entry, _ *startCheck) { e.Status = nil }, ""},
		"nobody in a stage":  {func(_ *agent.Entry, c *startCheck) { c.plan.Stages[0].Selector = "env=lab" }, `stage test has no agent that matches "env=lab"`},
		"does not take part": {func(e *agent.Entry, c *startCheck) { e.Labels["env"], e.Platform = "lab", "plan9/386" }, ""},
		"has failed before": {func(e *agent.Entry, _ *startCheck) {
			e.Status.Upgrade.Quarantine = []upgrade.Quarantined{{Ref: upgrade.Ref{Manifest: target}}}
		}, "in quarantine"},
		"failed long ago": {func(e *agent.Entry, _ *startCheck) {
			e.Status.Upgrade.Quarantine = []upgrade.Quarantined{{Ref: upgrade.Ref{Manifest: target}, Until: time.Now().Add(-time.Hour)}}
		}, ""},
	} {
		p := rollout.Plan{ID: "r", Stages: []rollout.Stage{{Name: "test", Selector: "env=test", BasisPoints: 10_000}}}
		p.Target.Release, p.Target.Program = release.Pin{Version: "1.1.0", Digest: target}, "agentd"
		check := &startCheck{plan: &p, entries: []agent.Entry{registered("a1"), registered("a2")}}
		c.change(&check.entries[1], check)
		check.members = membersOf(check.entries, "default")
		if err := check.sort(); err != nil {
			t.Fatal(err)
		}
		check.examine(manifest)
		err := check.verdict(new(strings.Builder), false)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
		var said strings.Builder
		if err := check.verdict(&said, true); err != nil || strings.Contains(said.String(), "obstacle: ") != (c.says != "") {
			t.Errorf("%s: --force does not help, or not all is told: %v\n%s", name, err, said.String())
		}
		if err := check.wouldBegin(false); (err != nil) != (c.says != "") || check.wouldBegin(true) != nil {
			t.Errorf("%s: a dry run ends otherwise than a start: %v", name, err)
		}
		if told := strings.Contains(said.String(), "1 agent of those it is about have it already; a revert takes it"); told != (name == "runs it already") {
			t.Errorf("%s: that a revert takes it from who had it is told: %v\n%s", name, told, said.String())
		}
	}
}

// TestWhatWouldSurpriseIsToldBeforeARolloutBegins: a rollout that nobody moves, or that
// judges nothing but probations, looks like any other.
func TestWhatWouldSurpriseIsToldBeforeARolloutBegins(t *testing.T) {
	said := func(change func(*startCheck)) string {
		p := rollout.Plan{ID: "r", Fleet: "shop", Stages: []rollout.Stage{{Name: "all", BasisPoints: 10_000, Soak: 1, PairBy: "env"}}}
		check := &startCheck{plan: &p, leader: &rollout.Leader{ID: "c1"}, entries: []agent.Entry{registered("a1")}}
		check.members = membersOf(check.entries, "default")
		change(check)
		if err := check.sort(); err != nil {
			t.Fatal(err)
		}
		return strings.Join(append(check.notes, check.obstacles...), "; ")
	}
	for says, change := range map[string]func(*startCheck){
		"":                                   func(*startCheck) {},
		"no controller is elected":           func(c *startCheck) { c.leader = nil },
		"is of environment prod":             func(c *startCheck) { c.plan.Environments = []string{"test", "prod"} },
		"it is about is of group web":        func(c *startCheck) { c.plan.Target.Config = &rollout.ConfigTarget{Scope: "group/web"} },
		"no stage soaks":                     func(c *startCheck) { c.plan.Stages[0].Soak = 0 },
		"no agent has the label rack":        func(c *startCheck) { c.plan.Stages[0].PairBy = "rack" },
		"no agent of fleet shop":             func(c *startCheck) { c.members = nil },
		`no agent that matches "zone=north"`: func(c *startCheck) { c.plan.Selector = "zone=north" },
	} {
		if got := said(change); says == "" && got != "" || !strings.Contains(got, says) {
			t.Errorf("told is %q, want %q", got, says)
		}
	}
}

// TestRevertToAReleaseThatNobodyWouldGoToIsRefused: it ended at once, as reverted, with
// everybody on another release.
func TestRevertToAReleaseThatNobodyWouldGoToIsRefused(t *testing.T) {
	to := release.Pin{Version: "1.0.0", Digest: "sha256:" + strings.Repeat("cd", 32)}
	p := &rollout.Plan{State: rollout.Reverted, Target: rollout.Target{Release: release.Pin{Version: "1.1.0", Digest: "sha256:" + strings.Repeat("ab", 32)}}}
	left := &rollout.Member{ID: "a1", Manifest: p.Target.Release.Digest}
	elsewhere := &rollout.Member{ID: "a2", Version: "1.2.0"}
	r := &rolloutRevert{to: "1.0.0"}
	var said strings.Builder
	if err := r.leaves(&said, p, []*rollout.Member{elsewhere}, to); err == nil || !strings.Contains(err.Error(), "agentd rollback") {
		t.Errorf("nobody goes: %v", err)
	}
	if err := r.leaves(&said, p, []*rollout.Member{left, elsewhere}, to); err != nil || !strings.Contains(said.String(), "stays agent a2") {
		t.Errorf("one goes: %v, %s", err, said.String())
	}
	if err := (&rolloutRevert{}).leaves(&said, p, []*rollout.Member{elsewhere}, to); err != nil {
		t.Errorf("without --to: %v", err)
	}
	if r.force = true; r.leaves(&said, p, []*rollout.Member{elsewhere}, to) != nil {
		t.Error("--force does not help")
	}
}

// TestPromoteSaysWhetherItOpenedAGateOrTookAStage: who promotes too early skips a soak.
func TestPromoteSaysWhetherItOpenedAGateOrTookAStage(t *testing.T) {
	p := &rollout.Plan{Stage: 1, Promoted: 2, Stages: []rollout.Stage{{Name: "one"}, {Name: "two"}}}
	if got := promoted(p); got != "the gate is open" {
		t.Error(got)
	}
	if p.Promoted = 3; !strings.Contains(promoted(p), "stage two is taken as it is") {
		t.Error(promoted(p))
	}
}

// TestResumeWarnsOfARevertThatHaltsAgain: nothing else says how it ends.
func TestResumeWarnsOfARevertThatHaltsAgain(t *testing.T) {
	for _, c := range []struct {
		plan  rollout.Plan
		warns bool
	}{
		{rollout.Plan{State: rollout.Running}, false},
		{rollout.Plan{State: rollout.Reverting}, true},
		{rollout.Plan{State: rollout.Reverting, PastSilent: true}, false},
	} {
		if got := resumed(&c.plan); strings.Contains(got, "revert --past-silent") != c.warns {
			t.Errorf("%s, past silent agents: %v: resume says %q", c.plan.State, c.plan.PastSilent, got)
		}
	}
}

// TestRevertIsRefusedWhereTheReleaseIsNeitherKeptNorOffered: half a fleet would
// stay on what it is to leave.
func TestRevertIsRefusedWhereTheReleaseIsNeitherKeptNorOffered(t *testing.T) {
	target := release.Pin{Version: "1.1.0", Digest: "sha256:" + strings.Repeat("ab", 32)}
	before := release.Pin{Version: "1.0.0", Digest: "sha256:" + strings.Repeat("cd", 32)}
	p := &rollout.Plan{Target: rollout.Target{Release: target}}
	here := &release.Description{Manifest: &release.Manifest{Platforms: []release.Platform{{OS: "linux", Arch: "amd64"}}}}
	for name, c := range map[string]struct {
		m       rollout.Member
		to      release.Pin
		offered *release.Description
		want    bool
	}{
		"never changed":             {rollout.Member{Manifest: before.Digest}, release.Pin{}, nil, true},
		"changed and kept it":       {rollout.Member{Manifest: target.Digest, Retained: []string{"1.0.0"}}, release.Pin{}, nil, true},
		"changed and kept nothing":  {rollout.Member{Manifest: target.Digest}, release.Pin{}, nil, false},
		"runs it":                   {rollout.Member{Manifest: before.Digest}, before, nil, true},
		"runs it, installed":        {rollout.Member{Version: "1.0.0"}, before, nil, true},
		"kept the very one":         {rollout.Member{Manifest: target.Digest, Retained: []string{"0.9.0", before.String()}}, before, nil, true},
		"kept another":              {rollout.Member{Manifest: target.Digest, Retained: []string{"0.9.0"}}, before, nil, false},
		"offered":                   {rollout.Member{Manifest: target.Digest, Platform: "linux/amd64"}, before, here, true},
		"not for its platform":      {rollout.Member{Manifest: target.Digest, Platform: "linux/arm64"}, before, here, false},
		"same version, other bytes": {rollout.Member{Manifest: "sha256:other", Version: "1.0.0"}, before, nil, false},
	} {
		if got := canGoBack(&c.m, p, c.to, c.offered); got != c.want {
			t.Errorf("%s: can go back: %v, want %v", name, got, c.want)
		}
	}
}

func TestFollowedRolloutEndsWithACodeOfItsOwn(t *testing.T) {
	for state, want := range map[rollout.State]int{
		rollout.Completed: 0, rollout.Running: 3, rollout.Paused: 3, rollout.Halted: 4, rollout.Reverting: 5, rollout.Reverted: 5, rollout.Aborted: 6,
	} {
		var said strings.Builder
		code := report(&said, endOf(&rollout.Plan{ID: "r1", State: state, Why: "nobody is left"}, "two of three failed", rollout.Completed))
		if code != want || code != 0 && !strings.Contains(said.String(), "found it "+string(state)+": two of three failed") {
			t.Errorf("%s ends with %d, want %d: %s", state, code, want, said.String())
		}
	}
	if err := endOf(&rollout.Plan{State: rollout.Reverted}, "slow", rollout.Reverted); err != nil {
		t.Errorf("a revert that has come to its end: %v", err)
	}
}
