package agent

import (
	"context"
	"slices"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/upgrade"
)

// upgradeHost shows the agent to its upgrader.
type upgradeHost struct{ *Agent }

func (h upgradeHost) Failing(ctx context.Context) []string {
	var failing []string
	for _, c := range h.health.Evaluate(ctx).Checks {
		if !c.OK {
			failing = append(failing, c.Name+": "+c.Error)
		}
	}
	return failing
}

func (h upgradeHost) Compatible(version string) error {
	if h.plugins == nil {
		return nil
	}
	return h.plugins.Compatible(version)
}

func (h upgradeHost) Lease() int64 {
	if h.presence.session == nil {
		return 0
	}
	return h.presence.session.Lease()
}

// Changed keeps the lifecycle in step with the attempt. A successor's
// lifecycle begins with its commit.
func (h upgradeHost) Changed(s upgrade.Status) {
	switch {
	case s.State == upgrade.Idle, h.lifecycle.get().State == Initializing:
	case s.State.Terminal():
		reason := s.Reason
		if reason == "" {
			reason = "upgraded to " + s.To.Version
		}
		h.lifecycle.set(Running, string(s.State)+": "+reason)
	default:
		h.lifecycle.set(Upgrading, s.From.Version+" to "+s.To.Version)
	}
	h.indicate(health.ReleaseYanked, s.Yanked != "")
	h.indicate(health.ReleaseKeyRevoked, s.Provenance != nil && s.Provenance.Revoked != nil)
	h.service.follow(s)
	h.following.look()
	h.responder.look() // what has waited for the end of an attempt
	h.touch()
}

// ownRules are of what only an agent can tell: it has them beside whatever rules
// its program configures.
func ownRules() []health.Rule {
	return slices.DeleteFunc(health.DefaultRules(), func(r health.Rule) bool {
		return r.Name != health.ReleaseYanked && r.Name != health.ReleaseKeyRevoked && r.Name != health.EtcdStale
	})
}

// withOwnRules adds the agent's own rules to those that were configured, but
// for what these are about already, unless none are wanted.
func withOwnRules(rules []health.Rule) []health.Rule {
	if len(rules) == 0 {
		return rules // the default has them
	}
	all := slices.Clone(rules)
	for _, r := range ownRules() {
		if !slices.ContainsFunc(rules, func(o health.Rule) bool { return o.Name == r.Name || o.Indicator == r.Indicator }) {
			all = append(all, r)
		}
	}
	return all
}

// indicate shows in the health tree whether what is true of the release that runs.
func (a *Agent) indicate(what string, is bool) {
	value := 0.0
	if is {
		value = 1
	}
	a.health.Observe(what, value)
}

// observePlugins counts the plugins' new exceptions. Those that an earlier host
// has counted are none: a successor would raise an alert of its own for what is
// long over. The manager calls it from one goroutine.
func (a *Agent) observePlugins(all []plugin.Status) {
	now, fresh := make(map[string]int64, len(all)), int64(0)
	for _, p := range all {
		before, known := a.exceptions[p.Name]
		if !known {
			before = p.Inherited
		}
		now[p.Name] = p.Exceptions
		fresh += max(p.Exceptions-before, 0) // less: another plugin of that name
	}
	a.exceptions = now
	if fresh > 0 {
		a.health.Observe(health.PluginExceptions, float64(fresh))
	}
}
