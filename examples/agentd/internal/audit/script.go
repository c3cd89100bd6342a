package audit

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"mvdan.cc/sh/v3/syntax"
)

// script is judged for what it uses and does not declare, and for the images
// that it pulls or runs.
func (s *source) script() bool {
	first := s.line(1)
	shell := shellOf(first)
	if strings.HasPrefix(first, "#!") && shell == "" {
		s.run.report.leave(s.tree.shown(s.name), "a script of another language than sh, bash and ksh")
		return false
	}
	file := s.parse(string(s.raw), shell)
	if file == nil {
		return true
	}
	begin := map[uint]uint{} // of comments, by line
	comments(file, func(c *syntax.Comment) { begin[c.Pos().Line()] = c.Pos().Offset() })
	s.speaks = func(offset int) bool {
		from, ok := begin[uint(s.at(offset).line)] //nolint:gosec // lines are from 1
		return ok && from <= uint(offset)          //nolint:gosec // it stands in the file
	}
	u := newUse()
	u.read(file)
	s.declared(u)
	known := s.sourced(u, path.Dir(s.name), 0)
	if !known.complete {
		s.report(sourceUnread, known.at, "%s was not found below the audited path: what it sets is unknown, so that the variables and programs of this script were not judged", known.missing)
	}
	at := func(p syntax.Pos) position { return s.at(int(min(p.Offset(), uint(len(s.raw))))) } //nolint:gosec // at most the size of the file
	if known.complete {
		s.undeclared(u, at, true)
	}
	for _, c := range u.images {
		s.image(c.name, s.spelt(at(c.pos), c.name), "")
	}
	return true
}

// spelt is where a word begins that says name. The offset is that of the very
// text, within the quotes if it stands in some, and unknown if the word is
// written in another way: "a"/b.
func (s *source) spelt(at position, name string) position {
	rest := s.raw[min(at.offset, len(s.raw)):]
	if len(rest) > 0 && (rest[0] == '"' || rest[0] == '\'') {
		rest, at.offset = rest[1:], at.offset+1
	}
	if !bytes.HasPrefix(rest, []byte(name)) {
		at.offset, at.why = -1, "it is written in parts, or with escapes"
	}
	return at
}

// shellOf returns the shell that a first line names, nothing if it names none
// that is understood.
func shellOf(line string) string {
	command, ok := strings.CutPrefix(line, "#!")
	if !ok {
		return ""
	}
	for field := range strings.FieldsSeq(command) {
		switch base := path.Base(field); {
		case base == "env", strings.HasPrefix(base, "-"):
			continue
		case slices.Contains([]string{"sh", "bash", "dash", "ash", "ksh", "mksh"}, base):
			return base
		}
		return ""
	}
	return ""
}

// parse reads a script; what is no script is reported.
func (s *source) parse(text, shell string) *syntax.File {
	variant := syntax.LangBash // reads what is for sh, and tells [[ from a program
	if shell == "ksh" || shell == "mksh" {
		variant = syntax.LangMirBSDKorn
	}
	file, err := parseShell(text, variant)
	if err != nil {
		s.report(fileUnread, position{}, "was not judged: no shell script: %v", err)
		return nil
	}
	return file
}

// declared takes what comments of the script declare.
func (s *source) declared(u *use) {
	for _, d := range s.directives() {
		switch d.verb {
		case "tools":
			for _, name := range d.words {
				u.tools[name] = true
			}
		case "env":
			for _, name := range d.words {
				u.sets[name] = true
			}
		}
	}
}

// reach tells whether all was found that a script sources.
type reach struct {
	complete bool
	missing  string
	at       position
}

const maxSourced = 4

// sourced adds what sourced files set. They are looked for beside the script
// and below the root of the tree.
func (s *source) sourced(u *use, dir string, depth int) reach {
	for _, c := range slices.Clone(u.sources) {
		at := position{line: 1, column: 1, offset: -1}
		if depth == 0 {
			at = s.at(int(min(c.pos.Offset(), uint(len(s.raw))))) //nolint:gosec // at most the size of the file
		}
		raw := s.besides(c.name, dir)
		if raw == nil || depth == maxSourced {
			return reach{missing: "a file that is sourced (" + c.shown + ")", at: at}
		}
		file, err := parseShell(string(raw), syntax.LangBash)
		if err != nil {
			return reach{missing: "a script in " + c.shown, at: at}
		}
		other := newUse()
		other.read(file)
		if r := s.sourced(other, path.Dir(path.Join(dir, c.name)), depth+1); !r.complete {
			r.at = at
			return r
		}
		u.take(other)
	}
	return reach{complete: true}
}

// besides returns the content of a file that a script names, nil if it is not
// there.
func (s *source) besides(name, dir string) []byte {
	if name == "" {
		return nil
	}
	for _, candidate := range []string{path.Join(dir, name), path.Clean(strings.TrimPrefix(name, "/"))} {
		if raw, err := s.tree.read(candidate, maxScript); err == nil {
			return raw
		}
	}
	return nil
}

// repeat is something that a script uses several times, and that is told once.
type repeat struct {
	line, lines int  // the last line that it was found on, and on how many
	told, open  bool // that there is a finding of it, and one that stands
}

// undeclared reports what is used and declared nowhere, each as often as it takes
// for one finding to stand if there is a use that no comment suppresses.
func (s *source) undeclared(u *use, at func(syntax.Pos) position, tools bool) {
	uses := map[[2]string]*repeat{}
	tell := func(rule string, n named, format string, args ...any) {
		r := uses[[2]string{rule, n.name}]
		if r == nil {
			r = &repeat{}
			uses[[2]string{rule, n.name}] = r
		}
		p := at(n.pos)
		// Comments suppress a line each: more lines than comments need not be told.
		if r.line == p.line || r.lines > s.markers {
			return
		}
		r.line, r.lines = p.line, r.lines+1
		s.report(rule, p, format, args...).same = r
	}
	for _, v := range u.reads {
		if !u.sets[v.name] && !s.env[v.name] {
			tell(envUndeclared, v, "variable %s is set nowhere in the script: write ${%s:?what it is}, a default, or # %s env %s", v.name, v.name, marker, v.name)
		}
	}
	if !tools {
		return
	}
	for _, c := range u.calls {
		if !u.tools[c.name] && !s.tools[c.name] {
			tell(toolUndeclared, c, "program %s is used and not declared: check for it with command -v %s, or write # %s tools %s", c.name, c.name, marker, c.name)
		}
	}
}

// block judges the variables of a script inside of YAML. Which programs a
// runner has is not known there. prefixes begin the names of variables that
// the CI system sets.
func (d *documents) block(n *yaml.Node, declared map[string]bool, prefixes ...string) {
	d.embedded(n.Value, func(line int) position {
		if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
			return position{line: n.Line + line, column: 1, offset: -1}
		}
		return position{line: n.Line, column: n.Column, offset: -1}
	}, declared, prefixes)
}

// lines judges a script that is a list of lines, as one. before are what runs
// before it in the same shell, nil what of that is not known.
func (d *documents) lines(n *yaml.Node, declared map[string]bool, before ...*use) {
	var all []string
	var where []position
	for _, item := range append(items(n), n) {
		if item = target(item); text(item) == "" {
			continue
		}
		for i, line := range strings.Split(strings.TrimSuffix(item.Value, "\n"), "\n") {
			at := position{line: item.Line, column: item.Column, offset: -1}
			if item.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
				at = position{line: item.Line + 1 + i, column: 1, offset: -1}
			}
			all, where = append(all, line), append(where, at)
		}
	}
	d.embedded(strings.Join(all, "\n"), func(line int) position { return where[min(line, len(where))-1] }, declared, []string{"CI_", "GITLAB_"}, before...)
}

// embedded judges a script whose line n of the file at tells.
func (d *documents) embedded(script string, at func(line int) position, declared map[string]bool, prefixes []string, before ...*use) {
	script = withoutExpressions(script)
	if script == "" || len(script) > maxScript || strings.Contains(script, "$env:") { // PowerShell
		return
	}
	file, err := parseShell(script, syntax.LangBash)
	if err != nil {
		return // of another shell, perhaps
	}
	u := newUse()
	u.read(file)
	place := func(p syntax.Pos) position { return at(int(min(p.Line(), 1<<20))) } //nolint:gosec // bounded
	comments(file, func(c *syntax.Comment) {
		if strings.Contains(c.Text, marker) {
			delete(d.quiet, place(c.Pos()).line-1)
		}
	})
	for _, c := range u.images {
		p := place(c.pos)
		p.why = "it stands in a script inside of YAML"
		d.image(c.name, p, "")
	}
	for i := range u.reads {
		name := u.reads[i].name
		u.sets[name] = u.sets[name] || name == "CI" || declared[name] ||
			slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) ||
			slices.ContainsFunc(before, func(b *use) bool { return b == nil || !d.spend(0) || len(b.sources) > 0 || b.sets[name] })
	}
	if len(u.sources) == 0 {
		d.undeclared(u, place, false)
	}
}

// withoutExpressions puts a word of the same length in the place of each
// expression that the CI system fills in before a shell sees it.
func withoutExpressions(script string) string {
	var b strings.Builder
	for {
		begin := strings.Index(script, "${{")
		if begin < 0 {
			break
		}
		length := strings.Index(script[begin:], "}}")
		if length < 0 {
			break
		}
		b.WriteString(script[:begin])
		b.WriteString(strings.Repeat("x", length+2))
		script = script[begin+length+2:]
	}
	return b.String() + script
}
