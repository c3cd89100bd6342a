package agent

import (
	"context"
	"slices"
	"time"

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
	h.touch()
}

// yankedRule raises an alert while the release that runs is withdrawn.
func yankedRule() health.Rule { return indicated(health.ReleaseYanked) }

// keyRevokedRule raises one while the key that signed it is revoked.
func keyRevokedRule() health.Rule { return indicated(health.ReleaseKeyRevoked) }

func indicated(what string) health.Rule {
	return health.Rule{Name: what, Indicator: what, Above: 0, Every: 5 * time.Second}
}

// withRule adds the rule to those that were configured, unless one of them is
// about the same, or none are wanted.
func withRule(rules []health.Rule, r health.Rule) []health.Rule {
	if rules == nil {
		rules = health.DefaultRules()
	}
	if len(rules) == 0 || slices.ContainsFunc(rules, func(o health.Rule) bool { return o.Name == r.Name || o.Indicator == r.Indicator }) {
		return rules
	}
	return append(slices.Clone(rules), r)
}

// indicate shows in the health tree whether what is true of the release that runs.
func (a *Agent) indicate(what string, is bool) {
	value := 0.0
	if is {
		value = 1
	}
	a.health.Observe(what, value)
}

// observePlugins counts the plugins' new exceptions. The manager calls it
// from one goroutine.
func (a *Agent) observePlugins(all []plugin.Status) {
	var sum int64
	for _, p := range all {
		sum += p.Exceptions
	}
	if fresh := sum - a.exceptions; fresh > 0 {
		a.health.Observe(health.PluginExceptions, float64(fresh))
	}
	a.exceptions = sum
}
