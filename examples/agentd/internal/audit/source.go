package audit

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// source is a file that is being judged.
type source struct {
	*run
	name string
	raw  []byte
	// lines are the offsets at which lines begin.
	lines []int
	// markers is how often the audit is spoken to, or seems to be.
	markers int
	// quiet are lines, from 0, in which there is no comment, and speaks reports
	// whether the # at an offset is of one. Both are set by what reads the file;
	// without the latter, quotes tell.
	quiet  map[int]bool
	speaks func(offset int) bool
}

func newSource(r *run, name string, raw []byte) *source {
	s := &source{run: r, name: name, raw: raw, lines: []int{0}, quiet: map[int]bool{}, markers: bytes.Count(raw, []byte(marker))}
	for i, c := range raw {
		if c == '\n' {
			s.lines = append(s.lines, i+1)
		}
	}
	return s
}

// report adds a finding of the level that the rule has.
func (s *source) report(rule string, at position, format string, args ...any) *Finding {
	return s.reportAs(s.rules[rule].Level, rule, at, format, args...)
}

// reportAs adds a finding. What is returned is valid until the next one; of a
// rule that is ignored it is not part of the report.
func (s *source) reportAs(level Level, rule string, at position, format string, args ...any) *Finding {
	f := Finding{Rule: rule, Level: level, Path: s.tree.shown(s.name), Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...)}
	if s.ignore[rule] {
		return &f
	}
	s.run.report.Findings = append(s.run.report.Findings, f)
	return &s.run.report.Findings[len(s.run.report.Findings)-1]
}

// line returns a line by its number from 1, without its end.
func (s *source) line(n int) string {
	if n < 1 || n > len(s.lines) {
		return ""
	}
	text, _, _ := bytes.Cut(s.raw[s.lines[n-1]:], []byte("\n"))
	return strings.TrimSuffix(string(text), "\r")
}

// at is the position of a byte.
func (s *source) at(offset int) position {
	line, high := 0, len(s.lines) // the last that begins at offset or before
	for high-line > 1 {
		if middle := (line + high) / 2; s.lines[middle] <= offset {
			line = middle
		} else {
			high = middle
		}
	}
	begin := s.lines[line]
	end := min(max(offset, begin), len(s.raw))
	return position{line: line + 1, column: utf8.RuneCount(s.raw[begin:end]) + 1, offset: offset}
}

// column returns the byte at which a column, in characters from 1, begins.
func (s *source) column(line, column int) int {
	if line < 1 || line > len(s.lines) {
		return -1
	}
	text, offset := s.line(line), s.lines[line-1]
	for range column - 1 {
		_, size := utf8.DecodeRuneInString(text)
		if size == 0 {
			return -1
		}
		text, offset = text[size:], offset+size
	}
	return offset
}

// find is the position of the first place where text stands as a word of its
// own, the file's beginning if there is none.
func (s *source) find(text string) position {
	for from := 0; ; {
		i := bytes.Index(s.raw[from:], []byte(text))
		if i < 0 || text == "" {
			return s.at(0)
		}
		begin := from + i
		end := begin + len(text)
		if (begin == 0 || !wordByte(s.raw[begin-1])) && (end == len(s.raw) || !wordByte(s.raw[end])) {
			return s.at(begin)
		}
		from = begin + 1
	}
}

func wordByte(c byte) bool { return wordRune(rune(c)) }

// wordRune is of what names of packages, repositories and tags are made.
func wordRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-.", r)
}

// marker begins a comment that speaks to the audit.
const marker = "agentd-audit:"

// directive is such a comment.
type directive struct {
	line  int
	alone bool // nothing stands before it in its line
	verb  string
	words []string
	rest  string // after the words
}

// directives returns the comments of the file that speak to the audit. Text that
// is no comment does not: it may be of whoever wrote what a script prints.
func (s *source) directives() []directive {
	var all []directive
	for n := range s.lines {
		text := s.line(n + 1)
		before, comment, ok := strings.Cut(text, marker)
		before, inComment := strings.CutSuffix(strings.TrimRight(before, " \t"), "#")
		if !ok || !inComment || !s.comment(n, len(strings.TrimRight(before, "#"))) {
			continue
		}
		verb, rest, _ := strings.Cut(strings.TrimSpace(comment), " ")
		d := directive{line: n + 1, alone: strings.TrimSpace(before) == "", verb: verb}
		d.words, d.rest = list(rest)
		all = append(all, d)
	}
	return all
}

// comment reports whether the # at a byte of line n, from 0, is of a comment.
func (s *source) comment(n, begin int) bool {
	switch {
	case s.quiet[n]:
		return false
	case s.speaks != nil:
		return s.speaks(s.lines[n] + begin)
	}
	text := s.line(n + 1)
	if path.Base(s.name) == "go.mod" { // where // begins a comment
		text = strings.Replace(text, "//", "# ", 1)
	}
	var quote rune
	for i, r := range text[:begin] {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '"' || r == '\'':
			quote = r
		case r == '#' && (i == 0 || strings.ContainsRune(" \t", rune(text[i-1]))):
			return true // the comment began before
		}
	}
	return quote == 0
}

// list splits "a, b, c and the rest" into the words that commas join, and the
// rest.
func list(text string) (words []string, rest string) {
	for {
		text = strings.TrimLeft(text, " \t")
		end := strings.IndexAny(text, ", \t")
		if end < 0 {
			end = len(text)
		}
		if end > 0 {
			words = append(words, text[:end])
		}
		text = strings.TrimLeft(text[end:], " \t")
		more := strings.HasPrefix(text, ",")
		if text = strings.TrimPrefix(text, ","); !more {
			return words, strings.TrimSpace(text)
		}
	}
}

// suppress marks those of the file's findings, from before on, that comments in
// it speak of, and drops those that were made in case others are suppressed.
func (s *source) suppress(before int) {
	findings := s.run.report.Findings[before:]
	var wrong []func()
	for _, d := range s.directives() {
		fault := s.obey(d, findings)
		if fault != "" {
			wrong = append(wrong, func() { s.report(suppressionInvalid, position{line: d.line, column: 1, offset: -1}, "%s", fault) })
		}
	}
	kept := slices.DeleteFunc(findings, func(f Finding) bool {
		r := f.same
		if r == nil {
			return false
		}
		again := r.told && (r.open || !f.Open())
		r.told, r.open = true, r.open || f.Open()
		return again
	})
	s.run.report.Findings = s.run.report.Findings[:before+len(kept)]
	for _, tell := range wrong { // findings may move where they are appended to
		tell()
	}
}

// obey does what a comment says and returns what is wrong with it.
func (s *source) obey(d directive, findings []Finding) string {
	switch d.verb {
	case "tools", "env":
		if len(d.words) == 0 {
			return fmt.Sprintf("%s %s names nothing: want names, separated by commas", marker, d.verb)
		}
		return ""
	case "ignore", "ignore-file":
	default:
		return fmt.Sprintf("%s %q is no such word: want ignore, ignore-file, tools or env", marker, d.verb)
	}
	if err := checkRules(d.words); err != nil {
		return fmt.Sprintf("%s %s: %v", marker, d.verb, err)
	}
	if len(d.words) == 0 || d.rest == "" {
		return fmt.Sprintf("%s %s wants a rule and the reason, such as %s RULE pinned by the base image", marker, d.verb, d.verb)
	}
	from, to := d.line, d.line
	if d.alone {
		for to++; strings.HasPrefix(strings.TrimSpace(s.line(to)), "#"); to++ {
			continue
		}
	}
	if d.verb == "ignore-file" {
		from, to = 0, len(s.lines)
	}
	for i := range findings {
		f := &findings[i]
		for _, rule := range d.words {
			if f.Rule == rule && f.Line >= from && f.Line <= to {
				f.Suppressed = d.rest
			}
		}
	}
	return ""
}
