package audit

import (
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

func isCompose(base string) bool {
	return strings.HasPrefix(base, "compose.") || strings.HasPrefix(base, "docker-compose.") || strings.HasPrefix(base, "docker-compose-") || strings.HasPrefix(base, "compose-")
}

// looksComposed reports whether a document is a Compose file by what it
// holds: services, of which one has an image or is built.
func (d *documents) looksComposed(part *yaml.Node) (composed bool) {
	if d.get(part, "apiVersion") != nil {
		return false
	}
	d.fields(d.get(part, "services"), func(_ string, service *yaml.Node) {
		composed = composed || d.get(service, "image") != nil || d.get(service, "build") != nil
	})
	return composed
}

// compose judges the services of a Compose file. A service that is built and
// has an image gives that name to what it builds: nothing is pulled by it.
func (d *documents) compose(part *yaml.Node) {
	d.fields(d.get(part, "services"), func(_ string, service *yaml.Node) {
		image, policy := d.get(service, "image"), d.get(service, "pull_policy")
		built := d.get(service, "build") != nil
		word := text(policy)
		if word != "" && !composePolicy(word) && !strings.Contains(word, "$") {
			d.report(pullPolicyUnknown, d.place(policy), "pull policy %.100q is none: want always, missing, never, build, daily, weekly or every_ and a time", word)
		}
		d.composeBuild(d.get(service, "build"))
		for _, volume := range items(d.get(service, "volumes")) {
			if source := d.get(volume, "source"); text(source) != "" && text(d.get(volume, "type")) == "image" {
				d.image(interpolate(text(source), nil), d.place(source), text(source))
			}
		}
		if text(image) == "" || built {
			return
		}
		expanded := interpolate(text(image), nil)
		v := d.image(expanded, d.place(image), text(image))
		switch {
		case v.moving != "" && slices.Contains([]string{"missing", "if_not_present", "never"}, word):
			d.report(pullPolicyStale, d.place(policy), "pull policy %s keeps what %s meant when a host pulled it first (%s): pin the image by digest, or pull always", word, expanded, v.moving)
		case v.moving != "" && word == "":
			d.report(pullPolicyStale, d.place(image), "without a pull policy it is missing, which keeps what %s meant when a host pulled it first (%s): pin the image by digest, or pull always", expanded, v.moving)
		case v.pinned && word == "always":
			d.report(pullPolicyNeedless, d.place(policy), "pull policy always asks the registry at each start for %s, which cannot change: leave it out, unless pulling is to check who may", expanded)
		}
	})
}

// composeBuild judges what a service is built from, as far as that stands here.
func (d *documents) composeBuild(build *yaml.Node) {
	context := func(n *yaml.Node, prefix string) {
		image, ok := strings.CutPrefix(text(n), prefix+"docker-image://")
		if !ok {
			return
		}
		at := d.place(n)
		if at.offset >= 0 {
			at.offset += len(text(n)) - len(image)
		}
		d.image(interpolate(image, nil), at, image)
	}
	contexts := d.get(build, "additional_contexts")
	d.fields(contexts, func(_ string, n *yaml.Node) { context(n, "") })
	for _, item := range items(contexts) {
		if name, _, ok := strings.Cut(text(item), "="); ok {
			context(target(item), name+"=")
		}
	}
	if inline := d.get(build, "dockerfile_inline"); text(inline) != "" {
		d.inlined(inline)
	}
}

// inlined judges a Dockerfile that is a scalar. Its findings are put where they
// are in this file: to the character in a literal block, else at its beginning.
func (d *documents) inlined(n *yaml.Node) {
	for range len(text(n)) / 16 { // an alias repeats what it costs
		if !d.spend(0) {
			return
		}
	}
	before := len(d.run.report.Findings)
	newSource(d.run, d.name, []byte(strings.ReplaceAll(text(n), "$$", "$"))).dockerfile()
	first := d.line(n.Line + 1)
	indent := len(first) - len(strings.TrimLeft(first, " "))
	for i := range d.run.report.Findings[before:] {
		f := &d.run.report.Findings[before+i]
		f.edit = nil
		if n.Style&yaml.LiteralStyle != 0 {
			f.Line, f.Column = n.Line+f.Line, f.Column+indent
		} else {
			f.Line, f.Column = n.Line, n.Column
		}
	}
}

func composePolicy(word string) bool {
	return slices.Contains([]string{"always", "never", "missing", "if_not_present", "build", "refresh", "daily", "weekly"}, word) || strings.HasPrefix(word, "every_")
}

// maxVariables bounds how many variables of one text are filled in.
const maxVariables = 50

// interpolate fills in the variables of s as far as that is possible without
// an environment: from values, else from defaults such as ${TAG:-1.2.3}. What
// has neither is left as it is.
func interpolate(s string, values map[string]string) string {
	return interpolateFrom(s, func(name string) (string, bool) {
		value, set := values[name]
		return value, set
	})
}

// interpolateFrom is interpolate for values that are looked up. What becomes
// longer than a reference may be is not filled in: values name each other.
func interpolateFrom(s string, of func(name string) (value string, set bool)) string {
	var b strings.Builder
	for range maxVariables {
		before, after, ok := strings.Cut(s, "$")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		name, operator, operand, length := variableOf(after)
		if length == 0 {
			b.WriteString("$")
			s = after
			continue
		}
		value, set := of(name)
		if filled, ok := expanded(value, set, operator, operand); ok && len(filled) <= maxReference && b.Len() <= maxReference {
			b.WriteString(filled)
		} else {
			b.WriteString("$" + after[:length])
		}
		s = after[length:]
	}
	return b.String() + s
}

// expanded does what the operator of an expansion says. It is not ok if that
// needs a value that is not known, or cannot be done here.
func expanded(value string, set bool, operator, operand string) (string, bool) {
	plain := !strings.Contains(operand, "$")
	switch operator {
	case "", "?", ":?":
		return value, set
	case "-", ":-":
		if set && (value != "" || operator == "-") {
			return value, true
		}
		return operand, plain
	case "+", ":+": // without a value here, it may have one elsewhere
		return operand, plain && value != ""
	case "%", "%%", "#", "##":
		short := len(value) <= maxShortened && len(operand) <= maxShortened && !strings.Contains(value, "/")
		if !short || !plain || !set {
			return "", false
		}
		return without(value, operator, operand), true
	}
	return "", false
}

// maxShortened is how long a value or pattern may be that something is cut off
// by.
const maxShortened = 64

// without cuts off what a pattern matches: at the end or, with #, at the
// beginning; the shortest such part or, with the sign twice, the longest.
func without(value, operator, pattern string) string {
	kept, found := value, false
	for i := range len(value) + 1 {
		cut, rest := value[i:], value[:i]
		if operator[0] == '#' {
			cut, rest = value[:i], value[i:]
		}
		if ok, err := path.Match(pattern, cut); err != nil || !ok {
			continue
		}
		if longest := len(operator) == 2; !found || longest == (len(rest) < len(kept)) {
			kept, found = rest, true
		}
	}
	return kept
}

// variableOf reads what follows a dollar: NAME, {NAME}, {NAME:-operand}.
// length is how much of s that is, 0 if it is no variable.
func variableOf(s string) (name, operator, operand string, length int) {
	braced := strings.HasPrefix(s, "{")
	if braced {
		length = 1
	}
	begin := length
	for length < len(s) && nameByte(s[length], length == begin) {
		length++
	}
	name = s[begin:length]
	if name == "" || !braced {
		return name, "", "", length
	}
	end := closing(s[length:])
	if end < 0 {
		return "", "", "", 0
	}
	inner := s[length : length+end]
	length += end + 1
	for _, operator := range []string{":-", "-", ":?", "?", ":+", "+", "%%", "%", "##", "#"} {
		if operand, ok := strings.CutPrefix(inner, operator); ok {
			return name, operator, operand, length
		}
	}
	return name, inner, "", length
}

// closing returns where the brace is that closes one before s, negative if it is
// missing.
func closing(s string) int {
	open := 1
	for i := range len(s) {
		switch s[i] {
		case '{':
			open++
		case '}':
			if open--; open == 0 {
				return i
			}
		}
	}
	return -1
}

func nameByte(c byte, first bool) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || !first && c >= '0' && c <= '9'
}
