package agent

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/upgrade"
)

// The names of the nodes below an agent.
const (
	nodeRegistration = "registration"
	nodeConfig       = "config"
	nodeUpgrade      = "upgrade"
	nodeChecks       = "checks"
	nodeIndicators   = "indicators"
	nodePlugins      = "plugins"
)

// Tree tells how the agent is, in the same form as its status in etcd, but
// whole: with the checks that pass, the indicators and what plugins are well.
func (a *Agent) Tree() Node {
	reg, status := a.Info(), a.status()
	var plugins []PluginRecord
	if a.plugins != nil {
		for _, s := range a.plugins.List() {
			plugins = append(plugins, PluginRecord{schema, s})
		}
	}
	return treeOf(reg, status, plugins)
}

// treeOf puts together what an agent tells of itself.
func treeOf(reg Registration, s Status, plugins []PluginRecord) Node {
	root := Node{Name: reg.ID, State: string(reg.State.State), Reason: reg.State.Reason, Since: reg.State.At}
	if s.Presence != nil {
		root.add(registrationNode(s.Presence))
	}
	if s.Config != nil {
		root.add(configNode(s.Config))
	}
	root.add(upgradeNode(&reg, s))
	checks := checksNode(s.Health, reg.State.State)
	root.add(checks)
	if n := indicatorsNode(s.Health); len(n.Children) > 0 {
		root.add(n)
	}
	if len(plugins) > 0 {
		root.add(pluginsNode(plugins))
	}
	// What an older release left out, or this one for want of room.
	switch {
	case s.Health.Starting:
		root.worsen(SeverityWarning)
		root.Reason = joined(root.Reason, "not started")
	case !s.Health.Live:
		root.worsen(SeverityCritical)
		root.Reason = joined(root.Reason, "not live")
	case !s.Health.Ready:
		root.worsen(unready(reg.State.State))
		root.Reason = joined(root.Reason, "not ready")
	}
	return root
}

func joined(texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(s string) bool { return s == "" }), "; ")
}

// unready is how bad it is that an agent is not ready: one that starts or ends
// is not meant to be.
func unready(s State) Severity {
	if s == Running || s == Upgrading || s == "" {
		return SeverityCritical
	}
	return SeverityWarning
}

func registrationNode(p *Presence) Node {
	n := Node{Name: nodeRegistration, State: "present"}
	switch {
	case p.Stale != "":
		n.State, n.Reason, n.Severity = "stale", p.Stale, SeverityWarning
	case p.HeartbeatError != "":
		n.State, n.Reason, n.Severity = "unanswered", p.HeartbeatError, SeverityWarning
	}
	return n
}

func configNode(c *config.Status) Node {
	n := Node{Name: nodeConfig, State: "r" + strconv.FormatInt(c.Running, 10), Since: c.RunningSince}
	if c.Running == 0 {
		n.State = "default"
	}
	f := c.LastFailed
	refused := f != nil && c.Wanted != c.Running
	if c.RunningDigest != "" {
		refused = f != nil && f.Digest == c.WantedDigest && c.WantedDigest != c.RunningDigest
	}
	switch {
	case refused:
		n.State += fmt.Sprintf(", r%d refused", f.Revision)
		n.Since, n.Reason, n.Severity = f.At, joined(f.Key, f.Reason), SeverityWarning
	case c.Error != "":
		n.Reason, n.Severity = c.Error, SeverityWarning
	}
	return n
}

// upgradeNode tells of the last attempt, and below it what else there is to
// tell of releases.
func upgradeNode(reg *Registration, s Status) Node {
	u := s.Upgrade
	n := Node{Name: nodeUpgrade, State: string(u.State), Reason: u.Reason, Since: u.Updated}
	if n.Reason == "" && u.To.Version != "" {
		n.Reason = "to " + u.To.Version
	}
	if u.By == upgrade.ByBootGuard || u.State.Terminal() && u.State != upgrade.Committed && !u.Abandoned {
		n.worsen(SeverityWarning)
	}
	release := Node{Name: "release", State: "trusted"}
	p := u.Provenance
	switch {
	case p != nil && p.Revoked != nil:
		release = Node{Name: "release", State: "key revoked", Reason: joined(p.Revoked.ID, p.Revoked.Reason), Since: p.Revoked.Since, Severity: SeverityCritical}
	case p != nil && p.Error != "":
		release = Node{Name: "release", State: "not to be trusted", Reason: p.Error, Severity: SeverityCritical}
	case reg.exchanged(&u):
		release = Node{Name: "release", State: "replaced", Reason: "the executable that runs is not the one that was installed", Severity: SeverityCritical}
	case u.Yanked != "":
		release = Node{Name: "release", State: "withdrawn", Reason: u.Yanked, Severity: SeverityWarning}
	}
	if release.Severity != SeverityOK {
		n.add(release)
	}
	if u.Hold != nil {
		n.add(Node{Name: "hold", State: "held", Reason: joined(u.Hold.By, u.Hold.Reason), Since: u.Hold.Since})
	}
	if s.OrderError != "" {
		n.add(Node{Name: "order", State: "refused", Reason: s.OrderError, Severity: SeverityWarning})
	}
	if s.RolloutError != "" {
		n.add(Node{Name: "rollout", State: "not followed", Reason: s.RolloutError, Severity: SeverityWarning})
	}
	return n
}

func checksNode(h health.Report, state State) Node {
	n := Node{Name: nodeChecks}
	failing := 0
	for _, c := range h.Checks {
		child := Node{Name: c.Name, State: "passes", Since: c.Since}
		if !c.OK {
			failing++
			child.State, child.Reason, child.Severity = "fails", c.Error, severityOf(c, state)
		}
		n.add(child)
	}
	worstFirst(n.Children)
	switch {
	case failing > 0:
		n.State = fmt.Sprintf("%d fail", failing)
	default:
		n.State = "pass"
	}
	return n
}

// severityOf is that of a check of an agent in this state.
func severityOf(c health.CheckReport, state State) Severity {
	switch {
	case c.OK:
		return SeverityOK
	case c.Kind == health.Informative, c.Name == conditionDraining:
		return SeverityWarning
	case c.Kind == health.Liveness, c.Kind == health.Both:
		return SeverityCritical
	}
	return unready(state)
}

// indicatorsNode tells of the alerts that fire, and of the indicators that are
// behind none of them.
func indicatorsNode(h health.Report) Node {
	n := Node{Name: nodeIndicators, State: "no alert"}
	if len(h.Alerts) > 0 {
		n.State = fmt.Sprintf("%d firing", len(h.Alerts))
	}
	firing := map[string]bool{}
	for _, a := range h.Alerts {
		firing[a.Indicator] = true
		child := Node{Name: a.Name, State: string(health.Firing), Severity: severityOfAlert(a), Since: a.Since}
		child.Reason = fmt.Sprintf("%s, above %s", figure(a.Value, a.Unit), figure(a.Threshold, a.Unit))
		n.add(child)
	}
	for _, i := range h.Indicators {
		if firing[i.Name] {
			continue
		}
		child := Node{Name: i.Name, State: string(i.State), Since: i.Since}
		switch {
		case !i.At.IsZero():
			child.Reason = joined(figure(i.Value, i.Unit), i.Basis)
		default:
			child.Reason = i.Error
		}
		n.add(child)
	}
	worstFirst(n.Children)
	return n
}

// severityOfAlert is a warning for what older releases write, which know no other.
func severityOfAlert(a health.Alert) Severity {
	if a.Severity == health.Critical {
		return SeverityCritical
	}
	return SeverityWarning
}

// figure is a value with its unit, as in "91.2 percent".
func figure(v health.Number, unit string) string {
	text := strconv.FormatFloat(float64(v), 'g', 6, 64)
	if unit != "" {
		text += " " + unit
	}
	return text
}

func pluginsNode(all []PluginRecord) Node {
	n := Node{Name: nodePlugins}
	running := 0
	for _, p := range all {
		child := Node{Name: p.Name, State: string(p.State), Reason: p.Reason, Since: p.Since}
		switch p.State {
		case plugin.Running:
			running++
			if p.Reason != "" { // its files are newer, and cannot be used
				child.Severity = SeverityWarning
			}
		case plugin.Degraded:
			child.Severity = SeverityWarning
		case plugin.BackingOff, plugin.Quarantined, plugin.Refused:
			if child.Severity = SeverityWarning; p.Required {
				child.Severity = SeverityCritical
			}
		case plugin.Discovered, plugin.Starting, plugin.Draining, plugin.Disabled, plugin.Stopped:
		default:
			child.Severity = SeverityUnknown
		}
		n.add(child)
	}
	worstFirst(n.Children)
	if n.State = fmt.Sprintf("%d running", running); running < len(all) {
		n.State += fmt.Sprintf(", %d not", len(all)-running)
	}
	return n
}
