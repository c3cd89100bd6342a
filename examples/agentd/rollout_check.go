package main

import (
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
	for i := range c.stages {
		if s := &c.stages[i]; s.Selected == 0 {
			c.obstacles = append(c.obstacles, fmt.Sprintf("stage %s has no agent that matches %q: label agents (agentd run --label), or give stages of your own", s.Name, c.plan.Stages[i].Selector))
		}
	}
	if n := len(c.entries) - len(c.members); n > 0 {
		c.notes = append(c.notes, fmt.Sprintf("%d agents of the registry are not of this fleet: they follow another's plan (agentd run --fleet), or none", n))
	}
	if n := len(c.rest); n > 0 {
		c.notes = append(c.notes, fmt.Sprintf("%d agents take part and are in no stage, such as %s", n, idsOfMembers(c.rest)))
	}
	if held := slices.DeleteFunc(c.takePart(), func(m *rollout.Member) bool { return m.Held == "" }); len(held) > 0 {
		c.notes = append(c.notes, fmt.Sprintf("%d agents are held by their operators and stay as they are: %s", len(held), idsOfMembers(held)))
	}
	return nil
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
		c.notes = append(c.notes, fmt.Sprintf("%d agents run it already", running))
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
		say(w, "note: %s", oneLine(o))
	}
	return nil
}
