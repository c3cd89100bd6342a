package release

import (
	"errors"
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"
)

func TestPolicyRefusesWhatTheHostMustNotRun(t *testing.T) {
	lax := Policy{AllowMajor: true, AllowPrerelease: true}
	older := Policy{AllowOlder: true}
	for _, tt := range []struct {
		name     string
		policy   Policy
		running  string
		target   string
		requires Requires
		host     PolicyContext
		want     error
		says     string
	}{
		{name: "patch", running: "1.2.0", target: "1.2.1"},
		{name: "minor", running: "1.2.0", target: "1.10.0"},
		{name: "pre-release to its release", running: "1.2.0-rc.1", target: "1.2.0"},
		{name: "downgrade", policy: lax, running: "1.2.0", target: "1.1.9", want: ErrDowngrade},
		{name: "downgrade to pre-release of same version", policy: lax, running: "1.2.0", target: "1.2.0-rc.1", want: ErrDowngrade},
		{name: "same version", policy: lax, running: "1.2.0", target: "1.2.0", want: ErrPolicy},
		{name: "same version, other build", policy: lax, running: "1.2.0+a", target: "1.2.0+b", want: ErrPolicy},
		{name: "next major", running: "1.2.0", target: "2.0.0", want: ErrPolicy, says: "(run --allow-major)"},
		{name: "next major allowed", policy: Policy{AllowMajor: true}, running: "1.2.0", target: "2.0.0"},
		{name: "pre-release", running: "1.2.0", target: "1.3.0-rc.1", want: ErrPolicy, says: "(run --allow-prerelease)"},
		{name: "pre-release allowed", policy: Policy{AllowPrerelease: true}, running: "1.2.0", target: "1.3.0-rc.1"},
		{name: "pre-release of next major, only pre-releases allowed", policy: Policy{AllowPrerelease: true}, running: "1.2.0", target: "2.0.0-rc.1", want: ErrPolicy},
		{name: "unknown running version", policy: lax, target: "1.0.0", want: ErrPolicy},
		{name: "requires holds", running: "1.2.0", target: "1.3.0", requires: Requires{Upgrade: ">=1.2.0, <2"}},
		{name: "requires holds for a running pre-release", running: "1.2.0-rc.1", target: "1.3.0", requires: Requires{Upgrade: ">=1.0.0"}},
		{name: "requires newer running version", running: "1.1.0", target: "1.3.0", requires: Requires{Upgrade: ">=1.2.0"}, want: ErrRequires},
		{name: "requires plugin API", running: "1.1.0", target: "1.3.0", requires: Requires{PluginAPI: ">=2"}, host: PolicyContext{PluginAPI: "1"}, want: ErrRequires},
		{name: "requires plugin API, host has none", running: "1.1.0", target: "1.3.0", requires: Requires{PluginAPI: ">=2"}, want: ErrRequires},
		{name: "has plugin API", running: "1.1.0", target: "1.3.0", requires: Requires{PluginAPI: ">=1, <3"}, host: PolicyContext{PluginAPI: "2"}},
		{name: "requires config schema", running: "1.1.0", target: "1.3.0", requires: Requires{ConfigSchema: "3"}, host: PolicyContext{ConfigSchema: "2"}, want: ErrRequires},
		{name: "host's schema unreadable", running: "1.1.0", target: "1.3.0", requires: Requires{ConfigSchema: "3"}, host: PolicyContext{ConfigSchema: "three"}, want: ErrRequires},
		{name: "constraint unreadable", running: "1.1.0", target: "1.3.0", requires: Requires{Upgrade: "newest"}, want: ErrRequires},
		{name: "floating target", policy: lax, running: "1.1.0", target: "latest", want: ErrFloatingTag},
		{name: "rollback goes back", running: "1.2.0", target: "1.1.0", requires: Requires{Upgrade: "<1.1.0"}, host: PolicyContext{Rollback: true}},
		{name: "rollback over a major", running: "2.0.0", target: "1.1.0", host: PolicyContext{Rollback: true}},
		{name: "rollback to what the plugins cannot speak", running: "1.2.0", target: "1.1.0", requires: Requires{PluginAPI: "1"}, host: PolicyContext{Rollback: true, PluginAPI: "2"}, want: ErrRequires},
		{name: "rollback to what is not retained", policy: lax, running: "1.2.0", target: "1.1.0", host: PolicyContext{Older: true}, want: ErrDowngrade, says: "(run --allow-older)"},
		{name: "that is allowed", policy: older, running: "1.2.0", target: "1.1.0", requires: Requires{Upgrade: "<1.1.0"}, host: PolicyContext{Older: true}},
		{name: "that is allowed, and it requires a plugin API", policy: older, running: "1.2.0", target: "1.1.0", requires: Requires{PluginAPI: "1"}, host: PolicyContext{Older: true, PluginAPI: "2"}, want: ErrRequires},
		{name: "that is allowed, and it is an upgrade", policy: older, running: "1.2.0", target: "1.3.0", host: PolicyContext{Older: true}, want: ErrPolicy, says: "upgrade to it"},
		{name: "that is allowed, over a major", policy: older, running: "2.0.0", target: "1.3.0", host: PolicyContext{Older: true}, want: ErrPolicy, says: "(run --allow-major)"},
		{name: "that is allowed, of an upgrade", policy: older, running: "1.2.0", target: "1.1.0", want: ErrDowngrade},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var running *semver.Version
			if tt.running != "" {
				running = semver.MustParse(tt.running)
			}
			err := CheckPolicy(tt.policy, running, &Manifest{Name: "agentd", Version: tt.target, Requires: tt.requires}, tt.host)
			if !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) {
				t.Errorf("%s → %s: %v, want %v", tt.running, tt.target, err, tt.want)
			}
			if err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want an error that says %q", err, tt.says)
			}
		})
	}
}
