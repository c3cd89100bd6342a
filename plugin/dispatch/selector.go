package dispatch

import "github.com/perennial-go/perennial/internal/selector"

// ParseSelector checks a selector of agents for tasks and returns it in one
// form. Labels are selected as in Kubernetes: env=test,tier!=web,zone in (a,b),
// gpu,!legacy. The fields, with a dot, are .id, .group, .host, .platform,
// .version (of the agent's program, a SemVer constraint such as >=1.2), .plugin
// and .capability (of the plugins that take tasks now); values that end with *
// stand for all that begin so, but for .version. The empty text selects every
// agent. At most 4 KiB and 64 requirements; errors name the column.
func ParseSelector(text string) (string, error) {
	s, err := selector.Parse(text, selectorFields())
	return s.String(), err
}

func selectorFields() selector.Fields {
	return selector.Fields{
		"id": {}, "group": {}, "host": {}, "platform": {}, "plugin": {}, "capability": {},
		"version": {Version: true},
	}
}

// subject shows a worker to a selector.
type subject struct{ *WorkerInfo }

// Label implements selector.Subject.
func (w subject) Label(key string) (string, bool) {
	value, ok := w.Labels[key]
	return value, ok
}

// Field implements selector.Subject.
func (w subject) Field(name string) []string {
	var values []string
	switch name {
	case "id":
		return []string{w.Agent}
	case "group":
		return w.Groups
	case "host":
		values = []string{w.Host}
	case "platform":
		values = []string{w.Platform}
	case "version":
		values = []string{w.Version}
	case "plugin":
		for _, p := range w.Plugins {
			values = append(values, p.Name)
		}
		return values
	case "capability":
		for _, p := range w.Plugins {
			values = append(values, p.Capabilities...)
		}
		return values
	}
	if len(values) == 1 && values[0] == "" {
		return nil
	}
	return values
}
