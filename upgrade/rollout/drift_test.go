package rollout

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// production is an agent that runs 1.2.0 as it is pinned.
func production(id string) *Member {
	return &Member{
		ID: id, Fleet: "default", Labels: map[string]string{"env": "production"}, Groups: []string{"web"}, Platform: "linux/amd64", Joined: 5,
		Version: "1.2.0", Manifest: pinDigest("a"), Binary: pinHex("b"), Installed: pinHex("b"),
		Plugins: map[string]string{"logtail": pinDigest("c")}, ConfigDigest: pinDigest("0"), ConfigRevision: 9,
	}
}

func driftPins() []Pin {
	return []Pin{{
		Environment: "production", Release: pinOf("1.2.0", "a"), Binaries: map[string]string{"linux/amd64": pinHex("b")},
		Plugins: map[string]string{"logtail": pinDigest("c")}, Config: map[string]string{"group/web": pinDigest("d")},
	}}
}

func driftDocuments() map[string]Document {
	return map[string]Document{"global": {7, pinDigest("1")}, "group/web": {9, pinDigest("d")}, "group/db": {20, pinDigest("2")}, "agent/other": {21, pinDigest("3")}}
}

// compared is what is found of one agent that change makes another one of.
func compared(t *testing.T, plan *Plan, change func(*Member, *DriftInput)) AgentDrift {
	t.Helper()
	m := production("a1")
	in := DriftInput{Members: []*Member{m}, Pins: driftPins(), Documents: driftDocuments(), Plan: plan}
	change(m, &in)
	d, err := Compare(in)
	if err != nil || len(d.Agents) != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	return d.Agents[0]
}

func TestNothingThatRunsDifferentlyPassesForPinned(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Member, *DriftInput)
		status DriftStatus
		what   string
	}{
		"as pinned":                             {func(*Member, *DriftInput) {}, DriftNone, ""},
		"other version":                         {func(m *Member, _ *DriftInput) { m.Version, m.Manifest = "1.1.0", pinDigest("e") }, DriftVersion, "release"},
		"other manifest":                        {func(m *Member, _ *DriftInput) { m.Manifest = pinDigest("e") }, DriftDigest, "release"},
		"other executable":                      {func(m *Member, _ *DriftInput) { m.Binary, m.Installed = pinHex("e"), pinHex("e") }, DriftDigest, "binary"},
		"replaced bytes of an unknown platform": {func(m *Member, _ *DriftInput) { m.Platform, m.Binary = "linux/arm64", pinHex("e") }, DriftDigest, "binary"},
		"replaced bytes of the right one":       {func(m *Member, in *DriftInput) { m.Binary = pinHex("e"); in.Pins[0].Binaries = nil }, DriftDigest, "binary"},
		"replaced bytes without a pin":          {func(m *Member, in *DriftInput) { m.Binary = pinHex("e"); in.Pins = nil }, DriftDigest, "binary"},
		"bytes that are not told":               {func(m *Member, _ *DriftInput) { m.Binary, m.Installed = "", "" }, DriftUnknown, "binary"},
		"by hand, the right bytes":              {func(m *Member, _ *DriftInput) { m.Manifest = "" }, DriftNone, ""},
		"by hand, other bytes":                  {func(m *Member, _ *DriftInput) { m.Manifest, m.Binary, m.Installed = "", pinHex("e"), pinHex("e") }, DriftDigest, "binary"},
		"by hand, nothing to compare":           {func(m *Member, in *DriftInput) { m.Manifest = ""; in.Pins[0].Binaries = nil }, DriftUnknown, "release"},
		"plugin of other bytes":                 {func(m *Member, _ *DriftInput) { m.Plugins["logtail"] = pinDigest("e") }, DriftPlugin, "plugin/logtail"},
		"plugin that is missing":                {func(m *Member, _ *DriftInput) { m.Plugins = nil }, DriftPlugin, "plugin/logtail"},
		"old configuration":                     {func(m *Member, _ *DriftInput) { m.ConfigRevision = 7 }, DriftConfig, "config"},
		"own document":                          {func(_ *Member, in *DriftInput) { in.Documents["agent/a1"] = Document{22, pinDigest("4")} }, DriftConfig, "config"},
		"unpinned document published":           {func(_ *Member, in *DriftInput) { in.Documents["group/web"] = Document{9, pinDigest("e")} }, DriftConfig, "config/group/web"},
		"pinned document deleted":               {func(m *Member, in *DriftInput) { delete(in.Documents, "group/web"); m.ConfigRevision = 7 }, DriftConfig, "config/group/web"},
		"takes no configuration":                {func(m *Member, _ *DriftInput) { m.ConfigDigest, m.ConfigRevision = "", 0 }, DriftNone, ""},
		"held back":                             {func(m *Member, _ *DriftInput) { m.Version, m.Held = "1.1.0", "ops: audit" }, DriftHeld, "release"},
		"held, and its file was replaced": {func(m *Member, _ *DriftInput) {
			m.Version, m.Binary, m.Held = "1.1.0", pinHex("e"), "ops: audit" // the version is what the file says
		}, DriftDigest, "binary"},
		"held, and other bytes": {func(m *Member, _ *DriftInput) { m.Manifest, m.Held = pinDigest("e"), "ops: audit" }, DriftDigest, "release"},
		"no pin":                {func(m *Member, _ *DriftInput) { m.Labels = nil }, DriftUnpinned, "release"},
		"bad pin":               {func(_ *Member, in *DriftInput) { in.Pins, in.BadPins = nil, map[string]string{"production": "garbage"} }, DriftUnknown, "release"},
		"cannot be read":        {func(m *Member, _ *DriftInput) { *m = Member{ID: "a1"} }, DriftUnknown, "release"},
	} {
		a := compared(t, nil, c.change)
		what := ""
		for _, f := range a.Findings {
			if f.Status == a.Status {
				what = f.What
			}
		}
		if a.Status != c.status || what != c.what {
			t.Errorf("%s: %s of %q, want %s of %q: %+v", name, a.Status, what, c.status, c.what, a.Findings)
		}
	}
}

func TestOnlyWhatARolloutAccountsForIsRolling(t *testing.T) {
	target := pinOf("1.3.0", "e")
	runsTarget := func(m *Member, _ *DriftInput) { m.Version, m.Manifest = target.Version, target.Digest }
	pinned := func(_ *Member, in *DriftInput) { in.Pins[0].Release, in.Pins[0].Binaries = target, nil }
	reports := func(s ReportState) func(*Member, *DriftInput) {
		return func(m *Member, in *DriftInput) {
			pinned(m, in)
			m.Report = &Report{Request: "r-8.1", State: s, Reason: "no room"}
		}
	}
	for name, c := range map[string]struct {
		state  State
		change func(*Member, *DriftInput)
		status DriftStatus
		why    string
	}{
		"ahead of its pin":             {Running, runsTarget, DriftRolling, "r-8 is running"},
		"ahead while it is paused":     {Paused, runsTarget, DriftRolling, "r-8 is paused"},
		"ahead of one that has halted": {Halted, runsTarget, DriftVersion, "r-8 is halted: for a reason"},
		"behind one that has halted":   {Halted, pinned, DriftVersion, "r-8 is halted"},
		"cannot go back": {Reverting, func(m *Member, in *DriftInput) {
			reports(ReportFailed)(m, in)
			in.Pins = driftPins()
			runsTarget(m, in)
		}, DriftVersion, "failed: no room"},
		"pinned to what goes back":     {Reverting, pinned, DriftVersion, ""},
		"ahead while it goes back":     {Reverting, runsTarget, DriftRolling, "reverting"},
		"ahead after it was reverted":  {Reverted, runsTarget, DriftVersion, ""},
		"ahead after it was aborted":   {Aborted, runsTarget, DriftVersion, ""},
		"not let in yet":               {Running, pinned, DriftRolling, "running"},
		"failed":                       {Running, reports(ReportFailed), DriftVersion, "failed: no room"},
		"left out when it completed":   {Completed, pinned, DriftVersion, ""},
		"late, and about it":           {Completed, reports(ReportStarted), DriftRolling, "completed"},
		"refused, and it is completed": {Completed, reports(ReportRefused), DriftVersion, "refused: no room"},
		"neither the old nor the new":  {Running, func(m *Member, _ *DriftInput) { m.Version, m.Manifest = "1.0.0", pinDigest("9") }, DriftVersion, ""},
		"not selected":                 {Running, func(m *Member, in *DriftInput) { runsTarget(m, in); in.Plan.Selector = "env=test" }, DriftVersion, ""},
		"same version, other manifest": {Running, func(m *Member, _ *DriftInput) { m.Version, m.Manifest = target.Version, pinDigest("9") }, DriftVersion, ""},
		"replaced bytes in the middle": {Running, func(m *Member, in *DriftInput) { runsTarget(m, in); m.Binary = pinHex("7") }, DriftDigest, "installed"},
	} {
		plan := &Plan{ID: "r-8", Fleet: "default", State: c.state, Why: "for a reason", Target: Target{Release: target}, Previous: Target{Release: pinOf("1.2.0", "a")}, Instruction: Instruction{Number: 1}}
		a := compared(t, plan, c.change)
		if a.Status != c.status || !strings.Contains(fmt.Sprint(a.Findings), c.why) {
			t.Errorf("%s: %s, want %s because of %q: %+v", name, a.Status, c.status, c.why, a.Findings)
		}
	}
}

func TestRolloutOfADocumentAccountsForItsOwnScopeOnly(t *testing.T) {
	plan := &Plan{ID: "r-9", Fleet: "default", State: Running, Target: Target{Config: &ConfigTarget{Scope: "group/web", Digest: pinDigest("e")}}}
	old := func(m *Member, _ *DriftInput) { m.ConfigRevision = 7 }
	if a := compared(t, plan, old); a.Status != DriftRolling {
		t.Errorf("%+v", a)
	}
	plan.State = Halted
	if a := compared(t, plan, old); a.Status != DriftConfig || !strings.Contains(fmt.Sprint(a.Findings), "r-9 is halted") {
		t.Errorf("what a halted rollout has left hides: %+v", a)
	}
	plan.State, plan.Target.Config.Scope = Running, "group/db"
	if a := compared(t, plan, old); a.Status != DriftConfig {
		t.Errorf("%+v", a)
	}
}

func TestEnvironmentTellsTheWorstOfItsAgentsAndCountsThem(t *testing.T) {
	var members []*Member
	for i := range 10_000 {
		m := production(fmt.Sprintf("a%05d", 9_999-i))
		if i%1000 == 0 {
			m.Version, m.Manifest, m.Held = "1.1.0", pinDigest("e"), "ops"
		}
		members = append(members, m)
	}
	members[3].Binary = pinHex("7")
	members[4].Labels = map[string]string{"zone": "a"}
	pins := append(driftPins(), Pin{Environment: "empty", Release: pinOf("1.0.0", "0")})
	began := time.Now()
	d, err := Compare(DriftInput{Members: members, Pins: pins, Documents: driftDocuments()})
	if err != nil || len(d.Agents) != 10_000 || len(d.Environments) != 3 {
		t.Fatalf("%d agents, %+v, %v", len(d.Agents), d.Environments, err)
	}
	t.Logf("10,000 agents in %v", time.Since(began))
	if d.Agents[0].ID != members[4].ID || d.Agents[1].ID != "a00000" || d.Worst() != DriftDigest {
		t.Errorf("%+v, %+v, worst %s", d.Agents[0], d.Agents[1], d.Worst())
	}
	for _, want := range []EnvironmentDrift{
		{Environment: DefaultEnvironment, Status: DriftUnpinned, Agents: map[DriftStatus]int{DriftUnpinned: 1}},
		{Environment: "empty", Status: DriftUnknown}, // its agents may be gone
		{Environment: "production", Status: DriftDigest, Agents: map[DriftStatus]int{DriftNone: 9_988, DriftHeld: 10, DriftDigest: 1}},
	} {
		got := d.Environments[0]
		d.Environments = d.Environments[1:]
		if got.Environment != want.Environment || got.Status != want.Status || fmt.Sprint(got.Agents) != fmt.Sprint(want.Agents) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}
