package release

import (
	"fmt"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Admit is CheckPolicy that also says, for the record, by which rule the
// release is let in, such as
//
//	newer than 1.0.0, same major version; requires.upgrade >=1.0.0 holds for 1.0.0
func Admit(p Policy, running *semver.Version, m *Manifest, host PolicyContext) (rule string, err error) {
	if err := CheckPolicy(p, running, m, host); err != nil {
		return "", err
	}
	target, err := ParseVersion(m.Version)
	if err != nil {
		return "", err
	}
	rules := []string{"retained on this host and asked for by an operator"}
	if !host.Rollback {
		rules[0] = p.step(running, target)
	}
	if !host.Rollback && !host.Older {
		if c := m.Requires.Upgrade; c != "" {
			rules = append(rules, fmt.Sprintf("requires.upgrade %s holds for %s", c, running))
		}
	}
	if c := m.Requires.PluginAPI; c != "" {
		rules = append(rules, fmt.Sprintf("requires.plugin_api %s holds for %s", c, host.PluginAPI))
	}
	if c := m.Requires.ConfigSchema; c != "" {
		rules = append(rules, fmt.Sprintf("requires.config_schema %s holds for %s", c, host.ConfigSchema))
	}
	return strings.Join(rules, "; "), nil
}

// step says what the policy makes of the way from running to target.
func (p Policy) step(running, target *semver.Version) string {
	text := fmt.Sprintf("newer than %s, ", running)
	if target.LessThan(running) {
		text = fmt.Sprintf("a rollback to an older release than %s, which the policy lets be fetched, ", running)
	}
	if target.Major() == running.Major() {
		text += "same major version"
	} else {
		text += "another major version, which the policy allows"
	}
	if target.Prerelease() != "" {
		text += ", a pre-release, which the policy allows"
	}
	return text
}

// Demands puts what a release asks of a host into words, without a host.
func (r Requires) Demands() string {
	var all []string
	for _, c := range []struct{ of, constraint string }{
		{"the running version", r.Upgrade}, {"the plugin API", r.PluginAPI}, {"the configuration schema", r.ConfigSchema},
	} {
		if c.constraint != "" {
			all = append(all, c.of+" "+c.constraint)
		}
	}
	if len(all) == 0 {
		return "nothing"
	}
	return strings.Join(all, "; ")
}
