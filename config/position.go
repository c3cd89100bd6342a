package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Limits of a message, which goes into the status.
const (
	maxFaults = 10  // wrong fields that it names
	maxPath   = 200 // bytes of each one's path
)

// fault is what is wrong with one field.
type fault struct {
	path         string // empty = the document as a whole
	unknown      bool   // no such field
	reason       string // empty if unknown
	line, column int    // 0 = not known
	variable     string // of the environment that it is from
}

// Error implements error.
func (f fault) Error() string {
	var b strings.Builder
	if f.line > 0 {
		fmt.Fprintf(&b, "line %d, column %d: ", f.line, f.column)
	}
	if f.variable != "" {
		b.WriteString(f.variable + ": ")
	}
	path := f.path
	if len(path) > maxPath {
		path = strings.ToValidUTF8(path[:maxPath], "") + "…"
	}
	switch {
	case f.unknown && path == "":
		b.WriteString(`unknown field "": no setting has an empty name`)
	case f.unknown:
		fmt.Fprintf(&b, "unknown field %s: no such setting here; check the spelling, or remove it", path)
	case path == "":
		b.WriteString(f.reason)
	default:
		fmt.Fprintf(&b, "%s: %s", path, f.reason)
	}
	return b.String()
}

// faults are all that is wrong with a document's fields.
type faults []fault

func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	slices.SortFunc(f, func(a, b fault) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column),
			cmp.Compare(a.path, b.path), cmp.Compare(a.reason, b.reason))
	})
	return f
}

// Error implements error: one line, however many there are.
func (f faults) Error() string {
	lines := make([]string, 0, maxFaults+1)
	for _, one := range f[:min(len(f), maxFaults)] {
		lines = append(lines, one.Error())
	}
	if more := len(f) - maxFaults; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "; ")
}

// locate adds the positions in t.
func (t *tree) locate(wrong faults) error {
	for i := range wrong {
		wrong[i].line, wrong[i].column, _ = t.at(wrong[i].path)
		wrong[i].variable = t.variable(wrong[i].path)
	}
	return wrong.err()
}

// at returns where the value at path begins, counted from 1: its key in a
// mapping, itself in a list. path is as in error messages: a.b[2].c, with
// [name] or .name for an entry of a mapping. What an alias or << brings in is
// where it is written, what they are given under where that is.
func (t *tree) at(path string) (line, column int, ok bool) {
	if t.root == nil {
		return 0, 0, false
	}
	n := find(t.root, "."+path, 0)
	if n == nil {
		return 0, 0, false
	}
	return n.Line, n.Column, true
}

// variable returns the environment variable that the value at path, or what
// it is in, was set by.
func (t *tree) variable(path string) string {
	for end := len(path); end > 0; end = strings.LastIndexAny(path[:end], ".[") {
		if name := t.variables[path[:end]]; name != "" {
			return name
		}
	}
	return ""
}

// has reports whether t says anything about path.
func (t *tree) has(path string) bool {
	_, _, ok := t.at(path)
	return ok || t.variable(path) != ""
}

// find returns the node that rest, which begins with . or [, leads to from n;
// nil if there is none. A name may itself contain . or [: each that fits is
// tried.
func find(n *yaml.Node, rest string, depth int) *yaml.Node {
	n = target(n)
	if depth > maxDepth {
		return nil
	}
	below := func(name string, here, value *yaml.Node) *yaml.Node {
		for _, step := range []string{"." + name, "[" + name + "]"} {
			after, fits := strings.CutPrefix(rest, step)
			switch {
			case !fits:
			case after == "":
				return here
			case after[0] == '.' || after[0] == '[':
				if found := find(value, after, depth+1); found != nil {
					return found
				}
			}
		}
		return nil
	}
	switch n.Kind { //nolint:exhaustive // nothing is below the others
	case yaml.SequenceNode:
		for i, item := range n.Content {
			if found := below(strconv.Itoa(i), item, item); found != nil {
				return found
			}
		}
	case yaml.MappingNode:
		var inherited []*yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := target(n.Content[i])
			if isMerge(key) {
				inherited = append(inherited, n.Content[i+1])
			} else if found := below(key.Value, n.Content[i], n.Content[i+1]); found != nil {
				return found
			}
		}
		for _, from := range inherited {
			bases := []*yaml.Node{from}
			if list := target(from); list.Kind == yaml.SequenceNode {
				bases = list.Content
			}
			for _, base := range bases {
				if found := find(base, rest, depth+1); found != nil {
					return found
				}
			}
		}
	}
	return nil
}

// target follows aliases. The YAML package makes none of an unknown anchor.
func target(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isMerge(key *yaml.Node) bool { return key.Kind == yaml.ScalarNode && key.ShortTag() == "!!merge" }

// join is the path of name below path.
func join(path, name string) string {
	if path == "" || name == "" || name[0] == '[' {
		return path + name
	}
	return path + "." + name
}

// collect adds err's faults to those known; any other error comes back.
func collect(known faults, err error) (faults, error) {
	if more, ok := errors.AsType[faults](err); ok {
		return append(known, more...), nil
	}
	return known, err
}
