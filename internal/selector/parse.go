package selector

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/Masterminds/semver/v3"

	"github.com/perennial-go/perennial/internal/ident"
)

// Error is a selector that cannot be read.
type Error struct {
	Selector string
	// Column counts characters from 1.
	Column int
	// Reason says what was wanted and what was found.
	Reason string
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("selector %.200q, column %d: %s", e.Selector, e.Column, e.Reason)
}

// Parse reads a selector; the empty one matches everything. Errors are of type
// *Error.
func Parse(text string, fields Fields) (Selector, error) {
	p := parser{text: text, fields: fields}
	if len(text) > MaxLength {
		return Selector{}, p.errorf(0, "want at most %d bytes, found %d", MaxLength, len(text))
	}
	for i, r := range text {
		if _, size := utf8.DecodeRuneInString(text[i:]); r == utf8.RuneError && size == 1 {
			return Selector{}, p.errorf(i, "want UTF-8, found the byte 0x%x", text[i])
		}
	}
	var s Selector
	if p.space(); p.end() {
		return s, nil
	}
	for {
		at := p.pos
		r, err := p.requirement()
		if err != nil {
			return Selector{}, err
		}
		if s.all = append(s.all, r); len(s.all) > MaxRequirements {
			return Selector{}, p.errorf(at, "want at most %d requirements, found more", MaxRequirements)
		}
		if p.end() {
			break
		}
		if !p.accept(",") {
			return Selector{}, p.errorf(p.pos, "want a comma or the end, found %s", p.found())
		}
	}
	// What is kept and sent is the canonical form, which quotes may make longer.
	if n := len(s.String()); n > MaxLength {
		return Selector{}, p.errorf(0, "want at most %d bytes, found %d with all quotes written out", MaxLength, n)
	}
	return s, nil
}

type parser struct {
	text   string
	pos    int
	fields Fields
}

// requirement reads one, and the space around it.
func (p *parser) requirement() (requirement, error) {
	var r requirement
	if p.accept("!") {
		r.op = absent
	}
	if err := p.name(&r); err != nil || r.op == absent {
		return r, err
	}
	at := p.pos
	switch order := p.order(); {
	case order != "" && !r.field.Version:
		return r, p.errorf(at, "want =, !=, in or notin, found %s: only a version has an order", order)
	case order != "":
		at = p.pos
		v, err := p.value()
		if err != nil {
			return r, err
		}
		r.op = in
		return r, p.add(&r, at, order+v.text, false)
	case p.accept("!="):
		r.op = notIn
		return r, p.values(&r, false)
	case p.accept("=="), p.accept("="):
		r.op = in
		return r, p.values(&r, false)
	case p.keyword("notin"):
		r.op = notIn
		return r, p.values(&r, true)
	case p.keyword("in"):
		r.op = in
		return r, p.values(&r, true)
	}
	return r, nil // it exists
}

// name reads a label's key or a field.
func (p *parser) name(r *requirement) error {
	p.space()
	at := p.pos
	r.name = p.word()
	p.space()
	if r.name == "" {
		p.pos = at
		return p.errorf(at, "want a label or a field, found %s", p.found())
	}
	name, isField := strings.CutPrefix(r.name, ".")
	if isField {
		var ok bool
		if r.field, ok = p.fields[name]; !ok {
			known := slices.Sorted(maps.Keys(p.fields))
			return p.errorf(at, "want one of the fields .%s, found %.60q; a name without a dot is a label", strings.Join(known, " ."), r.name)
		}
		return nil
	}
	if !ident.Valid(name, "._-/") {
		return p.errorf(at, "want a label's key, which is a letter or digit, then up to 127 letters, digits, dots, underscores, hyphens or slashes, found %.60q", name)
	}
	return nil
}

// values reads one value, or a list of them in parentheses.
func (p *parser) values(r *requirement, list bool) error {
	if list && !p.accept("(") {
		return p.errorf(p.pos, "want a list such as (a,b), found %s", p.found())
	}
	for {
		p.space()
		at := p.pos
		v, err := p.value()
		if err != nil {
			return err
		}
		if err := p.add(r, at, v.text, v.quoted); err != nil {
			return err
		}
		if !list || p.accept(")") {
			return nil
		}
		if !p.accept(",") {
			return p.errorf(p.pos, "want a comma or ), found %s", p.found())
		}
	}
}

type value struct {
	text   string
	quoted bool
}

// value reads a word or a string in double quotes, with Go's escapes.
func (p *parser) value() (value, error) {
	p.space()
	at := p.pos
	if strings.HasPrefix(p.text[p.pos:], `"`) {
		quoted, err := strconv.QuotedPrefix(p.text[p.pos:])
		text, unquoteErr := strconv.Unquote(quoted)
		if err != nil || unquoteErr != nil {
			return value{}, p.errorf(at, `want a string that ends with a quote and has no escapes but Go's, such as \" and \\, found %.60q`, p.text[at:])
		}
		if !utf8.ValidString(text) {
			return value{}, p.errorf(at, "want UTF-8, found escapes of other bytes in %.60q", quoted)
		}
		p.pos += len(quoted)
		p.space()
		return value{text, true}, nil
	}
	text := p.word()
	p.space()
	if text == "" {
		p.pos = at
		return value{}, p.errorf(at, `want a value, found %s; the empty one is ""`, p.found())
	}
	return value{text, false}, nil
}

// add checks a value and keeps it in its place.
func (p *parser) add(r *requirement, at int, text string, quoted bool) error {
	_, isField := strings.CutPrefix(r.name, ".")
	if !isField && !quoted && strings.Contains(text, "*") {
		return p.errorf(at, "want the whole value of a label, found %q: only a field's may end with *; put a * that is meant into quotes", text)
	}
	if known := r.field.Values; len(known) > 0 && !slices.Contains(known, text) {
		return p.errorf(at, "want %s, found %.60q", strings.Join(known, ", "), text)
	}
	i, found := slices.BinarySearch(r.values, text)
	if found {
		return nil
	}
	if r.field.Version {
		c, err := semver.NewConstraint(text)
		if err != nil {
			return p.errorf(at, `want a version or a constraint such as 1.2.3, 1.x, ~1.4 or ">=1.2, <2", found %.60q`, text)
		}
		c.IncludePrerelease = true
		r.constraints = slices.Insert(r.constraints, i, c)
	}
	r.values = slices.Insert(r.values, i, text)
	return nil
}

func (p *parser) order() string {
	order, _ := cutOrder(p.text[p.pos:])
	p.pos += len(order)
	return order
}

// accept takes a token, and the space after it, if it is next.
func (p *parser) accept(token string) bool {
	if !strings.HasPrefix(p.text[p.pos:], token) {
		return false
	}
	p.pos += len(token)
	p.space()
	return true
}

// keyword is accept for a word.
func (p *parser) keyword(word string) bool {
	at := p.pos
	if p.word() == word {
		p.space()
		return true
	}
	p.pos = at
	return false
}

// word takes what may stand without quotes.
func (p *parser) word() string {
	rest := p.text[p.pos:]
	n := strings.IndexFunc(rest, func(r rune) bool { return !word(r) })
	if n < 0 {
		n = len(rest)
	}
	p.pos += n
	return rest[:n]
}

func (p *parser) space() {
	p.pos = len(p.text) - len(strings.TrimLeft(p.text[p.pos:], " \t\r\n"))
}

func (p *parser) end() bool { return p.pos == len(p.text) }

// found names what is next.
func (p *parser) found() string {
	if p.end() {
		return "the end"
	}
	at := p.pos
	defer func() { p.pos = at }()
	if text := p.word(); text != "" {
		return fmt.Sprintf("%.60q", text)
	}
	r, _ := utf8.DecodeRuneInString(p.text[p.pos:])
	return strconv.QuoteRune(r)
}

func (p *parser) errorf(at int, format string, args ...any) error {
	return &Error{Selector: p.text, Column: utf8.RuneCountInString(p.text[:at]) + 1, Reason: fmt.Sprintf(format, args...)}
}
