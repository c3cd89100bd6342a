package dispatch

import (
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/perennial-go/perennial/internal/selector"
)

// demand is what a task wants of an agent.
type demand struct {
	pinned     string
	plugin     string
	capability string
	version    string
	constraint *semver.Constraints // nil = any
	selector   selector.Selector
}

func newDemand(s *spec) (*demand, error) {
	d := &demand{pinned: s.Pinned, plugin: s.Plugin, capability: s.Capability, version: s.Version}
	var err error
	if d.constraint, err = parseConstraint(s.Version); err != nil {
		return nil, err
	}
	d.selector, err = selector.Parse(s.Selector, selectorFields())
	return d, err
}

// demandKey is the same for tasks that want the same.
func demandKey(s *spec) string {
	return strings.Join([]string{s.Pinned, s.Plugin, s.Capability, s.Version, s.Selector}, "\x00")
}

// takes reports whether an agent can take the task. The runs of a task for all
// agents were matched when it was submitted.
func (d *demand) takes(w *WorkerInfo) bool {
	if d.pinned != "" && d.pinned != w.Agent {
		return false
	}
	return (d.pinned != "" || d.selector.Matches(subject{w})) && d.among(w.Plugins) != nil
}

// among returns the plugin that is to run the task, the newest of those that
// can, and nil where none can.
func (d *demand) among(plugins []WorkerPlugin) *WorkerPlugin {
	var best *WorkerPlugin
	var newest *semver.Version
	for i := range plugins {
		p := &plugins[i]
		if d.plugin != "" && p.Name != d.plugin || !d.capable(p) {
			continue
		}
		v, err := semver.NewVersion(p.Version)
		if d.constraint != nil && (err != nil || !d.constraint.Check(v)) {
			continue
		}
		if best == nil || v != nil && (newest == nil || v.GreaterThan(newest)) {
			best, newest = p, v
		}
	}
	return best
}

func (d *demand) capable(p *WorkerPlugin) bool {
	if d.capability == "" {
		return len(p.Capabilities) == 1
	}
	return slices.Contains(p.Capabilities, d.capability)
}

// why says why none of the workers can take the task.
func (d *demand) why(workers []WorkerInfo) string {
	if len(workers) == 0 {
		return "no agent takes tasks"
	}
	wanted := fmt.Sprintf("the capability %s", d.capability)
	switch {
	case d.plugin != "" && d.capability != "":
		wanted = fmt.Sprintf("the plugin %s with the capability %s", d.plugin, d.capability)
	case d.plugin != "":
		wanted = fmt.Sprintf("the plugin %s with one capability", d.plugin)
	}
	if d.version != "" {
		wanted += " in a version " + d.version
	}
	if d.pinned != "" {
		if slices.ContainsFunc(workers, func(w WorkerInfo) bool { return w.Agent == d.pinned }) {
			return fmt.Sprintf("agent %s has not got %s running", d.pinned, wanted)
		}
		return fmt.Sprintf("agent %s takes no tasks now", d.pinned)
	}
	selected := 0
	for i := range workers {
		if d.selector.Matches(subject{&workers[i]}) {
			selected++
		}
	}
	if selected == 0 {
		return fmt.Sprintf("the selector %q matches none of the %d agents that take tasks", d.selector.String(), len(workers))
	}
	return fmt.Sprintf("none of the %d agents that it selects has got %s running", selected, wanted)
}
