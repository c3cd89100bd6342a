package release

import (
	"fmt"

	"github.com/Masterminds/semver/v3"
)

// Policy says which releases a host takes. The zero value allows newer
// releases of the running major version that are not pre-releases.
type Policy struct {
	// AllowMajor allows a release with a greater major version.
	AllowMajor bool
	// AllowPrerelease allows a pre-release, such as 2.0.0-rc.1.
	AllowPrerelease bool
	// AllowOlder lets a rollback, and nothing else, fetch a release that the host
	// has not retained: one that the current index offers, that is older than the
	// running one, and that the rest of the policy allows.
	AllowOlder bool
}

// PolicyContext holds the facts about the host that CheckPolicy compares with
// Manifest.Requires.
type PolicyContext struct {
	// Rollback says that an operator asked for a retained release: its
	// version may be older, and neither the policy nor requires.upgrade
	// applies.
	Rollback bool
	// Older says that an operator asked for a rollback to a release that the host
	// has not retained: it must be older, AllowOlder must allow it, and
	// requires.upgrade does not apply, which older releases have of those before
	// them.
	Older bool
	// PluginAPI is the version of the plugin API that the host speaks, such
	// as "1". A release that requires one is refused while it is empty.
	PluginAPI string
	// ConfigSchema is the version of the host's configuration schema. A
	// release that requires one is refused while it is empty.
	ConfigSchema string
}

// CheckPolicy decides whether a host that runs version running may take the
// release. It returns nil, or an error that wraps ErrDowngrade, ErrPolicy or
// ErrRequires.
func CheckPolicy(p Policy, running *semver.Version, m *Manifest, host PolicyContext) error {
	target, err := ParseVersion(m.Version)
	if err != nil {
		return err
	}
	if !host.Rollback {
		if running == nil {
			return fmt.Errorf("%w: the running version is not known, so %s cannot be compared with it: build the program with a version", ErrPolicy, target)
		}
		if err := p.checkVersion(running, target, host.Older); err != nil {
			return err
		}
	}
	if !host.Rollback && !host.Older {
		if err := checkRequires("requires.upgrade", m.Requires.Upgrade, running.String(), "the running version"); err != nil {
			return err
		}
	}
	if err := checkRequires("requires.plugin_api", m.Requires.PluginAPI, host.PluginAPI, "the host's plugin API"); err != nil {
		return err
	}
	return checkRequires("requires.config_schema", m.Requires.ConfigSchema, host.ConfigSchema, "the host's configuration schema")
}

func (p Policy) checkVersion(running, target *semver.Version, older bool) error {
	switch c := target.Compare(running); {
	case older && c >= 0:
		return fmt.Errorf("%w: %s runs, %s is not older and is not retained: upgrade to it", ErrPolicy, running, target)
	case older && !p.AllowOlder:
		return fmt.Errorf("%w: %s runs, %s is older and is not retained: allow rollbacks to fetch older releases in the policy (run --allow-older), or publish it under a higher version", ErrDowngrade, running, target)
	case c < 0 && !older:
		return fmt.Errorf("%w: %s runs, %s is older: roll back to it if the host has kept it, or publish it under a higher version", ErrDowngrade, running, target)
	case c == 0:
		return fmt.Errorf("%w: %s runs already, %s is not newer: ask for a newer version", ErrPolicy, running, target)
	case target.Major() != running.Major() && !p.AllowMajor:
		return fmt.Errorf("%w: %s runs, %s has another major version: allow major versions in the policy (run --allow-major), or ask for one of %d.x", ErrPolicy, running, target, running.Major())
	case target.Prerelease() != "" && !p.AllowPrerelease:
		return fmt.Errorf("%w: %s is a pre-release: allow pre-releases in the policy (run --allow-prerelease), or ask for a full release", ErrPolicy, target)
	}
	return nil
}

// checkRequires compares by precedence alone: a running pre-release is a
// fact, and 1.2.0-rc.1 does satisfy >=1.0.0.
func checkRequires(field, constraint, found, whose string) error {
	if constraint == "" {
		return nil
	}
	c, err := semver.NewConstraint(constraint)
	if err != nil {
		return fmt.Errorf("%w: %s %q: %w", ErrRequires, field, constraint, err)
	}
	if found == "" {
		return fmt.Errorf("%w: %s is %q, %s is not set: set it in the host's configuration", ErrRequires, field, constraint, whose)
	}
	v, err := semver.NewVersion(found)
	if err != nil {
		return fmt.Errorf("%w: %s is %q, %s is %q: %w", ErrRequires, field, constraint, whose, found, err)
	}
	c.IncludePrerelease = true
	if !c.Check(v) {
		return fmt.Errorf("%w: %s is %q, %s is %s: upgrade by way of a release in between", ErrRequires, field, constraint, whose, found)
	}
	return nil
}
