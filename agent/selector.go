package agent

import (
	"strconv"

	"github.com/perennial-go/perennial/agent/fingerprint"
	"github.com/perennial-go/perennial/internal/selector"
	"github.com/perennial-go/perennial/upgrade"
)

// Selector says which agents are meant: a list of requirements on labels and
// fields that are all to hold, such as
//
//	env=test,tier!=web,zone in (a,b),gpu,!legacy,.version>=1.2,.id=web-*
//
// Labels are selected as in Kubernetes. The fields begin with a dot: .alert (one
// that fires), .config (the revision in force), .container, .fleet (whose plan it
// follows), .group, .health (ready, not-ready, dead or unknown), .hold (who holds
// it), .host, .id, .image, .kernel, .libc, .orchestrator, .os, .platform, .plugin,
// .runtime (of containers, as docker/24.0.5), .state, .upgrade (the state of the
// last attempt) and .version. Those about what an agent runs on are as in
// fingerprint.Fingerprint. An agent that has several values in a field, such as
// groups, is taken if one of them is, and refused by != and notin if one of them
// is among those. Values that end with * stand for all that begin so, but for
// .health, .state, .upgrade and .version; a .version is a SemVer constraint.
// docs/formats.md has the syntax.
//
// The zero value selects every agent. As JSON and YAML it is its text. It may
// be used concurrently.
type Selector struct{ parsed selector.Selector }

// ParseSelector reads at most 4 KiB with at most 64 requirements. Errors name
// the column. A text of nothing but space selects every agent.
func ParseSelector(text string) (Selector, error) {
	parsed, err := selector.Parse(text, selectorFields())
	return Selector{parsed}, err
}

func selectorFields() selector.Fields {
	return selector.Fields{
		"alert": {}, "config": {}, "fleet": {}, "group": {}, "hold": {}, "host": {}, "id": {}, "platform": {}, "plugin": {},
		"container": {}, "image": {}, "kernel": {}, "libc": {}, "orchestrator": {}, "os": {}, "runtime": {},
		"version": {Version: true},
		"health":  {Values: []string{HealthReady, HealthNotReady, HealthDead, HealthUnknown}},
		"state":   {Values: []string{string(Initializing), string(Running), string(Upgrading), string(Terminating), string(Terminated)}},
		"upgrade": {Values: []string{
			string(upgrade.Idle), string(upgrade.Requested), string(upgrade.Downloading), string(upgrade.Verifying),
			string(upgrade.Staged), string(upgrade.Starting), string(upgrade.Probation), string(upgrade.Committing),
			string(upgrade.Committed), string(upgrade.RollingBack), string(upgrade.RolledBack), string(upgrade.Failed),
		}},
	}
}

// IsZero reports whether s selects every agent.
func (s Selector) IsZero() bool { return s.parsed.Empty() }

// Matches reports whether s selects e. Of an agent whose registration cannot be
// read only the id is known.
func (s Selector) Matches(e *Entry) bool { return s.parsed.Matches(selected{e}) }

// String is s in a form that ParseSelector reads as the same selector, and the
// same for selectors that were written differently but for their order.
func (s Selector) String() string { return s.parsed.String() }

// MarshalText implements encoding.TextMarshaler.
func (s Selector) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Selector) UnmarshalText(text []byte) error {
	parsed, err := ParseSelector(string(text))
	if err == nil {
		*s = parsed
	}
	return err
}

// selected shows an entry to a selector.
type selected struct{ e *Entry }

// Label implements selector.Subject.
func (s selected) Label(key string) (string, bool) {
	value, ok := s.e.Labels[key]
	return value, ok
}

// Field implements selector.Subject.
func (s selected) Field(name string) []string {
	switch name {
	case "id":
		return []string{s.e.ID}
	case "fleet":
		return notEmpty(s.e.Fleet)
	case "group":
		return s.e.Groups
	case "health":
		return []string{s.e.HealthState()}
	case "host":
		return notEmpty(s.e.Host)
	case "platform":
		return notEmpty(s.e.Platform)
	case "state":
		return notEmpty(string(s.e.State.State))
	case "version":
		return notEmpty(s.e.Version)
	case "plugin":
		var names []string
		for _, p := range s.e.Plugins {
			names = append(names, p.Name)
		}
		return names
	}
	if f := s.e.Fingerprint; f != nil {
		if values := fieldOfFingerprint(f, name); values != nil {
			return values
		}
	}
	if s.e.Status == nil {
		return nil
	}
	return fieldOfStatus(s.e.Status, name)
}

func fieldOfFingerprint(f *fingerprint.Fingerprint, name string) []string {
	switch name {
	case "container":
		return notEmpty(f.Container)
	case "image":
		return notEmpty(f.Image)
	case "kernel":
		return notEmpty(f.Kernel)
	case "libc":
		return notEmpty(f.Libc)
	case "orchestrator":
		return notEmpty(f.Orchestrator)
	case "os":
		return notEmpty(f.OS)
	case "runtime":
		var all []string
		for _, r := range f.Runtimes {
			all = append(all, r.Name+"/"+r.Version)
		}
		return all
	}
	return nil
}

func fieldOfStatus(s *Status, name string) []string {
	switch name {
	case "alert":
		var names []string
		for _, a := range s.Health.Alerts {
			names = append(names, a.Name)
		}
		return names
	case "config":
		if s.Config != nil {
			revision := strconv.FormatInt(s.Config.Running, 10)
			return []string{revision, "r" + revision} // as tables have it
		}
	case "hold":
		if h := s.Upgrade.Hold; h != nil {
			return []string{h.By}
		}
	case "upgrade":
		return notEmpty(string(s.Upgrade.State))
	}
	return nil
}

func notEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}
