package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Limits of one YAML file. What aliases repeat counts each time.
const (
	maxValues = 2_000_000
	maxNested = 64
	maxParts  = 1000 // documents in one file
)

var errTooMuch = errors.New("more values, or deeper nested, than are looked at")

// documents are the parts of a YAML file, with the reading of them bounded:
// aliases are followed where they stand, and never expanded in memory.
type documents struct {
	*source
	parts []*yaml.Node
	left  int // how many values may be looked at still
	full  bool
	// doubled is how many keys were told to stand twice.
	doubled int
	// unlike: YAML ends lines also where other programs do not, so that the lines
	// of this file are counted differently.
	unlike bool
}

// yaml reads the file. With an error, the documents before it are returned as
// well.
func (s *source) yaml() (*documents, error) {
	d := &documents{source: s, left: maxValues, unlike: oddBreaks(s.raw)}
	if !d.unlike && bytes.Contains(s.raw, []byte(marker)) {
		texts := &texts{source: s}
		s.speaks = texts.comment
		defer func() {
			for _, part := range d.parts {
				texts.add(part)
			}
		}()
	}
	decoder := yaml.NewDecoder(bytes.NewReader(asYAML(s.raw)))
	for {
		var part yaml.Node
		err := decoder.Decode(&part)
		if errors.Is(err, io.EOF) {
			return d, nil
		}
		if err != nil {
			return d, fmt.Errorf("no YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
		}
		if len(d.parts) == maxParts {
			return d, fmt.Errorf("more than %d YAML documents", maxParts)
		}
		if part.Kind == yaml.DocumentNode && len(part.Content) == 1 {
			d.parts = append(d.parts, part.Content[0])
		}
	}
}

// oddBreaks reports whether a line ends with something else than LF or CRLF.
func oddBreaks(raw []byte) bool {
	return bytes.Count(raw, []byte("\r")) != bytes.Count(raw, []byte("\r\n")) ||
		bytes.ContainsAny(raw, "\u0085\u2028\u2029")
}

// mustYAML reads a file that is to be YAML, and reports if it is not: nil if
// nothing of it is.
func (s *source) mustYAML() *documents {
	d, err := s.yaml()
	if err == nil {
		return d
	}
	what := "was not judged"
	if len(d.parts) > 0 {
		what = "was judged up to where it cannot be read only"
	}
	if bytes.Contains(s.raw, []byte("{{")) {
		s.reportAs(Note, fileUnread, position{}, "%s, being a template: audit what it renders to (%v)", what, err)
	} else {
		s.report(fileUnread, position{}, "%s: %v", what, err)
	}
	if len(d.parts) > 0 {
		return d
	}
	return nil
}

// end reports what could not be looked at, or can be looked at in two ways.
func (d *documents) end() bool {
	for _, part := range d.parts {
		d.twice(part)
	}
	if d.full {
		d.report(fileUnread, position{}, "was judged in part only: %v", errTooMuch)
	}
	return true
}

// maxTwice bounds how many keys are told to stand twice.
const maxTwice = 100

// twice reports keys that a mapping has twice: programs differ in which of them
// counts. Several << are read by all that know it.
func (d *documents) twice(n *yaml.Node) {
	seen := map[string]*yaml.Node{}
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
			continue
		}
		if first := seen[key.Value]; first != nil && d.doubled < maxTwice {
			d.doubled++
			d.report(fileUnread, d.place(key), "key %.100q stands in line %d already, and programs differ in which of the two counts: remove one", key.Value, first.Line)
		}
		seen[key.Value] = key
	}
	for _, below := range n.Content {
		d.twice(below)
	}
}

// spend counts a value that is looked at and reports whether it may be.
func (d *documents) spend(depth int) bool {
	if d.left--; d.left < 0 || depth > maxNested {
		d.full = true
		return false
	}
	return true
}

// target follows aliases.
func target(n *yaml.Node) *yaml.Node {
	for range maxNested {
		if n == nil || n.Kind != yaml.AliasNode {
			return n
		}
		n = n.Alias
	}
	return nil
}

// fields calls f with what a mapping holds, what it merges (<<) after its own.
func (d *documents) fields(n *yaml.Node, f func(key string, value *yaml.Node)) {
	d.fieldsBelow(n, map[string]bool{}, 0, f)
}

func (d *documents) fieldsBelow(n *yaml.Node, seen map[string]bool, depth int, f func(key string, value *yaml.Node)) {
	if n = target(n); n == nil || n.Kind != yaml.MappingNode || !d.spend(depth) {
		return
	}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := target(n.Content[i]), target(n.Content[i+1])
		switch {
		case key == nil || value == nil || key.Kind != yaml.ScalarNode || !d.spend(0):
		case key.Tag == "!!merge":
			merged = append(merged, value)
		case !seen[key.Value]:
			seen[key.Value] = true
			f(key.Value, value)
		}
	}
	for _, m := range merged {
		if m.Kind == yaml.SequenceNode {
			for _, item := range m.Content {
				d.fieldsBelow(item, seen, depth+1, f)
			}
			continue
		}
		d.fieldsBelow(m, seen, depth+1, f)
	}
}

// get returns what a mapping holds under the keys, one below the other; nil
// if that is nothing.
func (d *documents) get(n *yaml.Node, keys ...string) *yaml.Node {
	for _, want := range keys {
		var found *yaml.Node
		d.fields(n, func(key string, value *yaml.Node) {
			if key == want {
				found = value
			}
		})
		if n = found; n == nil {
			return nil
		}
	}
	return n
}

// text returns what a scalar says, nothing if it is none.
func text(n *yaml.Node) string {
	if n = target(n); n == nil || n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return ""
	}
	return n.Value
}

// items returns what a list holds.
func items(n *yaml.Node) []*yaml.Node {
	if n = target(n); n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}

// place is where a scalar stands. The offset is known only if the file has
// the very text there, perhaps in quotes or behind an anchor, so that it can be
// replaced.
func (d *documents) place(n *yaml.Node) position {
	at := position{line: n.Line, column: n.Column, offset: -1, why: "it is written with escapes, or over several lines"}
	if d.unlike {
		at.why = "the file has ends of lines that only YAML knows"
		return at
	}
	begin := d.column(n.Line, n.Column)
	if begin < 0 || begin > len(d.raw) {
		return at
	}
	offset := d.afterProperties(begin)
	if bytes.Contains(d.raw[begin:offset], []byte("\n")) {
		return at
	}
	rest := d.raw[offset:]
	if quoted := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0; quoted && len(rest) > 0 {
		rest, offset = rest[1:], offset+1
	}
	if n.Value != "" && bytes.HasPrefix(rest, []byte(n.Value)) {
		at.offset, at.why = offset, ""
	}
	return at
}

// each calls f with every mapping below n.
func (d *documents) each(n *yaml.Node, f func(mapping *yaml.Node)) { d.eachBelow(n, 0, f) }

func (d *documents) eachBelow(n *yaml.Node, depth int, f func(mapping *yaml.Node)) {
	if n = target(n); n == nil || !d.spend(depth) {
		return
	}
	switch n.Kind {
	case yaml.MappingNode:
		f(n)
		for i := 1; i < len(n.Content); i += 2 {
			d.eachBelow(n.Content[i], depth+1, f)
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			d.eachBelow(item, depth+1, f)
		}
	default:
	}
}
