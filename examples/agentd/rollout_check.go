package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/examples/agentd/internal/rolloutview"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// startCheck is a plan held against the agents that there are.
type startCheck struct {
	plan    *rollout.Plan
	leader  *rollout.Leader // nil = no controller is elected
	entries []agent.Entry
	members []*rollout.Member
	policy  release.Policy

	stages []rolloutview.Stage
	// rest take part and are in no stage.
	rest []*rollout.Member
	// obstacles are why it should not begin; each is one sentence.
	obstacles []string
	notes     []string
}

// sort finds who would be in which stage. A stage without anybody judges
// nothing, and lets the next one go.
func (c *startCheck) sort() (err error) {
	if c.stages, c.rest, err = rolloutview.Stages(c.plan, c.members); err != nil {
		return err
	}
	if n := len(c.entries) - len(c.members); n > 0 {
		c.notes = append(c.notes, counted(n, "agent")+" of the registry not of this fleet: another's plan is followed there (agentd run --fleet), or none")
	}
	if len(c.members) == 0 {
		c.obstacles = append(c.obstacles, fmt.Sprintf("no agent of fleet %s is registered: start agents with the same --etcd, --etcd-root and --fleet", c.plan.Fleet))
		return nil
	}
	c.foresee()
	for i := range c.stages {
		if s := &c.stages[i]; s.Selected == 0 {
			c.obstacles = append(c.obstacles, fmt.Sprintf("stage %s has no agent that matches %q: label agents (agentd run --label), or give stages of your own", s.Name, cmp.Or(c.plan.Stages[i].Selector, c.plan.Selector)))
		}
	}
	if n := len(c.rest); n > 0 {
		c.notes = append(c.notes, fmt.Sprintf("in no stage, although the plan selects them: %s", idsOfMembers(c.rest)))
	}
	if held := slices.DeleteFunc(c.takePart(), func(m *rollout.Member) bool { return m.Held == "" }); len(held) > 0 {
		c.notes = append(c.notes, "held by their operators, so that they stay as they are: "+idsOfMembers(held))
	}
	return nil
}

// foresee notes what would surprise whoever begins it.
func (c *startCheck) foresee() {
	if c.leader == nil {
		c.notes = append(c.notes, "no controller is elected: it does not move until one runs (agentd rollout controller, or agentd run --rollout-controller)")
	}
	for i := range c.plan.Stages {
		label := c.plan.Stages[i].PairBy
		if label != "" && !slices.ContainsFunc(c.members, func(m *rollout.Member) bool { return m.Labels[label] != "" }) {
			c.notes = append(c.notes, fmt.Sprintf("stage %s: no agent has the label %s, so that none is half of a pair", c.plan.Stages[i].Name, label))
		}
	}
	for _, e := range c.plan.Environments {
		if !slices.ContainsFunc(c.members, func(m *rollout.Member) bool {
			return cmp.Or(m.Labels[rollout.EnvironmentLabel], rollout.DefaultEnvironment) == e
		}) {
			c.notes = append(c.notes, fmt.Sprintf("no agent of the fleet is of environment %s (its label %s): nobody is compared with that pin", e, rollout.EnvironmentLabel))
		}
	}
	if t := c.plan.Target.Config; t != nil {
		group, is := strings.CutPrefix(t.Scope, "group/")
		if is && !slices.ContainsFunc(append(c.takePart(), c.rest...), func(m *rollout.Member) bool { return slices.Contains(m.Groups, group) }) {
			c.notes = append(c.notes, fmt.Sprintf("none of the agents that it is about is of group %s: the document changes nothing for them", group))
		}
	}
	if c.plan.Target.Config == nil && !slices.ContainsFunc(c.plan.Stages, func(s rollout.Stage) bool { return s.Soak > 0 || s.Manual }) {
		c.notes = append(c.notes, "no stage soaks: each is judged as soon as its agents' probations have ended, and what shows later is not waited for (--soak)")
	}
}

// takePart are the agents of all stages.
func (c *startCheck) takePart() (all []*rollout.Member) {
	for i := range c.stages {
		all = append(all, c.stages[i].Members...)
	}
	return all
}

// shownMembers bounds how many agents are named.
const shownMembers = 5

// idsOfMembers names agents.
func idsOfMembers(members []*rollout.Member) string {
	var ids []string
	for _, m := range members[:min(shownMembers, len(members))] {
		ids = append(ids, m.ID)
	}
	text := strings.Join(ids, ", ")
	if more := len(members) - len(ids); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// examine looks for agents that would refuse the release.
func (c *startCheck) examine(m *release.Manifest) {
	takesPart := map[string]bool{}
	for _, m := range c.takePart() {
		takesPart[m.ID] = true
	}
	refusing := map[string][]string{}
	running := 0
	for i := range c.entries {
		e := &c.entries[i]
		switch {
		case !takesPart[e.ID]:
		case e.ManifestDigest == c.plan.Target.Release.Digest:
			running++
		default:
			if why := wouldRefuse(e, m, c); why != "" {
				refusing[why] = append(refusing[why], e.ID)
			}
		}
	}
	if running > 0 {
		c.notes = append(c.notes, counted(running, "agent")+" of those it is about have it already; a revert takes it from them, too")
	}
	whys := make([]string, 0, len(refusing))
	for why := range refusing {
		whys = append(whys, why)
	}
	slices.Sort(whys)
	for _, why := range whys {
		c.obstacles = append(c.obstacles, fmt.Sprintf("%s would refuse it: %s", namedIDs(refusing[why]), why))
	}
}

// wouldRefuse is why an agent would not take the release, as far as the registry
// tells; "" = nothing is known.
func wouldRefuse(e *agent.Entry, m *release.Manifest, c *startCheck) string {
	s := upgrade.Status{}
	if e.Status != nil {
		s = e.Status.Upgrade
	}
	if s.Program != "" && s.Program != c.plan.Target.Program {
		return fmt.Sprintf("they run %s, and the release is of %s", s.Program, c.plan.Target.Program)
	}
	if !slices.ContainsFunc(m.Platforms, func(p release.Platform) bool { return p.String() == e.Platform }) {
		return "there is no binary for " + e.Platform
	}
	for _, q := range s.Quarantine {
		if q.Manifest == c.plan.Target.Release.Digest && q.Active(time.Now()) {
			return "it has failed there before and is in quarantine (agentd quarantine clear)"
		}
	}
	version, err := release.ParseVersion(e.Version)
	if err != nil {
		return "" // what runs was not built as a release; the agent knows what that means
	}
	// What the host offers to plugins and in its configuration is not known here.
	known := *m
	known.Requires.PluginAPI, known.Requires.ConfigSchema = "", ""
	if err := release.CheckPolicy(c.policy, version, &known, release.PolicyContext{}); err != nil {
		return err.Error()
	}
	return ""
}

func namedIDs(ids []string) string {
	if len(ids) == 1 {
		return "agent " + ids[0]
	}
	text := fmt.Sprintf("%d agents (%s", len(ids), strings.Join(ids[:min(shownMembers, len(ids))], ", "))
	if more := len(ids) - shownMembers; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text + ")"
}

// verdict tells notes, and obstacles where they are no reason to refuse.
func (c *startCheck) verdict(w io.Writer, force bool) error {
	for _, note := range c.notes {
		say(w, "note: %s", oneLine(note))
	}
	if len(c.obstacles) == 0 {
		return nil
	}
	if !force {
		return fmt.Errorf("the rollout was not begun: %s; begin it all the same with --force", strings.Join(c.obstacles, "; "))
	}
	for _, o := range c.obstacles {
		say(w, "obstacle: %s", oneLine(o))
	}
	return nil
}

// wouldBegin is what a dry run ends with.
func (c *startCheck) wouldBegin(force bool) error {
	if n := len(c.obstacles); n > 0 && !force {
		return fmt.Errorf("it would not be begun, for %s; with --force it would", counted(n, "obstacle"))
	}
	return nil
}
