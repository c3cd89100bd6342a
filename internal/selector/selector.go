// Package selector says which of many things are meant, by their labels and
// by fields, in the syntax that Kubernetes made known:
//
//	env=test,tier!=web,zone in (a,b),zone notin (c),gpu,!legacy,.version>=1.2
//
// A name that begins with a dot is a field, which whoever parses declares; any
// other is a label. The package knows no field itself, so that agents, tasks
// and plans can be selected in the same way. Kubernetes' own parser comes with
// a module of some 100,000 lines.
package selector

import (
	"slices"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Limits of a selector: it may come from outside, and is matched against every
// agent of a fleet.
const (
	MaxLength       = 4 << 10 // bytes
	MaxRequirements = 64
)

// Fields are the fields that a selector may name, without the dot.
type Fields map[string]Field

// Field says what the values of a field are.
type Field struct {
	// Version makes a value that is selected by a constraint such as >=1.2, ~1.4
	// or 1.x on the SemVer versions of the field. Pre-releases take part, in the
	// order of SemVer: 2.0.0-rc.1 is below 2.
	Version bool
	// Values are those that the field can have, to refuse a mistyped one; empty
	// is any, and then a value that ends with * stands for all that begin so.
	Values []string
}

// Subject is what a selector is matched against.
type Subject interface {
	// Label returns a label and whether there is one.
	Label(key string) (string, bool)
	// Field returns the values of a declared field; none where it has no value.
	Field(name string) []string
}

// Selector is a list of requirements that are all to hold. It does not change
// once it is parsed and may be used concurrently. The zero value has none, and
// matches everything.
type Selector struct{ all []requirement }

type requirement struct {
	name  string // with the dot of a field
	field Field
	op    op
	// values of in and notIn are sorted and differ.
	values      []string
	constraints []*semver.Constraints // of the values of a version
}

type op int

const (
	exists op = iota
	absent
	in
	notIn
)

// Empty reports whether s matches everything.
func (s Selector) Empty() bool { return len(s.all) == 0 }

// Matches reports whether every requirement holds. One with != or notin holds
// as well where there is no such label or field, as in Kubernetes.
func (s Selector) Matches(subject Subject) bool {
	for _, r := range s.all {
		if !r.matches(subject) {
			return false
		}
	}
	return true
}

func (r *requirement) matches(subject Subject) bool {
	name, isField := strings.CutPrefix(r.name, ".")
	if !isField {
		value, ok := subject.Label(name)
		switch r.op {
		case exists:
			return ok
		case absent:
			return !ok
		case in:
			return ok && slices.Contains(r.values, value)
		default:
			return !ok || !slices.Contains(r.values, value)
		}
	}
	values := subject.Field(name)
	switch r.op {
	case exists:
		return len(values) > 0
	case absent:
		return len(values) == 0
	case in:
		return slices.ContainsFunc(values, r.takes)
	default:
		return !slices.ContainsFunc(values, r.takes)
	}
}

// takes reports whether the value of a field is among those of r.
func (r *requirement) takes(value string) bool {
	if r.field.Version {
		v, err := semver.NewVersion(value)
		return err == nil && slices.ContainsFunc(r.constraints, func(c *semver.Constraints) bool { return c.Check(v) })
	}
	return slices.ContainsFunc(r.values, func(wanted string) bool {
		if prefix, ok := strings.CutSuffix(wanted, "*"); ok && len(r.field.Values) == 0 {
			return strings.HasPrefix(value, prefix)
		}
		return value == wanted
	})
}

// String is s in the one form that Parse reads as the same selector, whichever
// way it was written: requirements in their order, values sorted.
func (s Selector) String() string {
	var b strings.Builder
	for i, r := range s.all {
		if i > 0 {
			b.WriteByte(',')
		}
		r.write(&b)
	}
	return b.String()
}

func (r *requirement) write(b *strings.Builder) {
	if r.op == absent {
		b.WriteByte('!')
	}
	b.WriteString(r.name)
	if r.op == exists || r.op == absent {
		return
	}
	if len(r.values) == 1 {
		switch order, rest := cutOrder(r.values[0]); {
		case r.op == notIn:
			b.WriteString("!=" + r.quote(r.values[0]))
		case r.field.Version && order != "" && bare(rest):
			b.WriteString(order + rest)
		default:
			b.WriteString("=" + r.quote(r.values[0]))
		}
		return
	}
	b.WriteString(map[op]string{in: " in (", notIn: " notin ("}[r.op])
	for i, v := range r.values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(r.quote(v))
	}
	b.WriteByte(')')
}

// cutOrder splits the operator of an order, such as >=, off a constraint.
func cutOrder(s string) (order, rest string) {
	for _, order := range []string{">=", "<=", ">", "<"} {
		if rest, ok := strings.CutPrefix(s, order); ok {
			return order, rest
		}
	}
	return "", s
}

// quote puts a value into quotes that could not stand without.
func (r *requirement) quote(value string) string {
	// The * of a label would read as a mistake.
	if bare(value) && (r.name[0] == '.' || !strings.Contains(value, "*")) {
		return value
	}
	return strconv.Quote(value)
}

// bare reports whether s may stand without quotes.
func bare(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return !word(r) }) < 0
}

// word reports whether r may be part of a name, or of a value without quotes.
func word(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-/:+@*~^%", r)
}
