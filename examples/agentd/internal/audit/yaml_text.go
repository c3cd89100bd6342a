package audit

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// texts are the places of a YAML file at which text stands that may look like a
// comment and is none: those within quotes are spans, those of block scalars
// quiet lines of the source.
type texts struct {
	*source
	spans []span // in order
	// The place that was asked for last, as nodes stand in order.
	last   position
	offset int
}

// span is from a byte to before another.
type span struct{ from, to int }

// comment reports whether the # at an offset begins a comment.
func (t *texts) comment(offset int) bool {
	before := bytes.TrimPrefix(t.raw[:offset], []byte("\ufeff"))
	if len(before) > 0 && !strings.ContainsRune(" \t\n", rune(before[len(before)-1])) {
		return false
	}
	i, exact := slices.BinarySearchFunc(t.spans, offset, func(s span, offset int) int { return cmp.Compare(s.from, offset) })
	return !exact && (i == 0 || t.spans[i-1].to <= offset)
}

// add takes the scalars of a document. What aliases repeat stands in the file
// once.
func (t *texts) add(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		from := t.afterProperties(t.seek(n.Line, n.Column))
		switch rest := t.raw[from:]; {
		case len(rest) == 0:
		case rest[0] == '"' || rest[0] == '\'':
			t.spans = append(t.spans, span{from, from + quotedLength(rest)})
		case rest[0] == '|' || rest[0] == '>':
			t.block(t.at(from).line, n.Value)
		}
	}
	for _, below := range n.Content {
		t.add(below)
	}
}

// seek is the byte of a line and column, both from 1.
func (t *texts) seek(line, column int) int {
	if line < 1 || line > len(t.lines) {
		return len(t.raw)
	}
	if line != t.last.line || column < t.last.column {
		t.last, t.offset = position{line: line, column: 1}, t.lines[line-1]
	}
	for ; t.last.column < column && t.offset < len(t.raw); t.last.column++ {
		_, size := utf8.DecodeRune(t.raw[t.offset:])
		t.offset += size
	}
	return t.offset
}

// afterProperties passes over the anchor and the tag of a node.
func (s *source) afterProperties(offset int) int {
	for offset < len(s.raw) && (s.raw[offset] == '&' || s.raw[offset] == '!') {
		end := bytes.IndexAny(s.raw[offset:], " \t\n")
		if end < 0 {
			return len(s.raw)
		}
		offset = len(s.raw) - len(bytes.TrimLeft(s.raw[offset+end:], " \t\r\n"))
	}
	return offset
}

// quotedLength is how many bytes the scalar has that begins with a quote.
func quotedLength(raw []byte) int {
	for i := 1; i < len(raw); i++ {
		switch {
		case raw[0] == '"' && raw[i] == '\\':
			i++
		case raw[i] != raw[0]:
		case raw[0] == '\'' && i+1 < len(raw) && raw[i+1] == '\'':
			i++
		default:
			return i + 1
		}
	}
	return len(raw)
}

// block takes the lines of a block scalar, which follow the one of its header:
// those that are indented as its first is, without the blanks of the text.
func (t *texts) block(header int, value string) {
	indent := func(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
	blank := func(line string) bool { return strings.TrimSpace(line) == "" }
	own := -1
	for line := range strings.Lines(value) {
		if !blank(line) {
			own = indent(line)
			break
		}
	}
	if own < 0 {
		return
	}
	least := -1
	for n := header; n < len(t.lines); n++ {
		line := t.line(n + 1)
		if blank(line) {
			continue
		}
		if least < 0 {
			least = indent(line) - own
		}
		if indent(line) < least || least <= 0 && (strings.HasPrefix(line, "---") || strings.HasPrefix(line, "...")) {
			return
		}
		t.quiet[n] = true
	}
}
