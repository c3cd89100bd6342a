package audit

import (
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
		return false // of another language
	}
	file := s.parse(string(s.raw), shell)
	if file == nil {
		return true
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
		s.image(c.name, at(c.pos), "")
	}
	return true
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

// undeclared reports what is used and declared nowhere, each once.
func (s *source) undeclared(u *use, at func(syntax.Pos) position, tools bool) {
	told := map[string]bool{}
	for _, v := range u.reads {
		if !u.sets[v.name] && !s.env[v.name] && !told[v.name] {
			told[v.name] = true
			s.report(envUndeclared, at(v.pos), "variable %s is set nowhere in the script: write ${%s:?what it is}, a default, or # %s env %s", v.name, v.name, marker, v.name)
		}
	}
	if !tools {
		return
	}
	for _, c := range u.calls {
		if !u.tools[c.name] && !s.tools[c.name] && !told[c.name] {
			told[c.name] = true
			s.report(toolUndeclared, at(c.pos), "program %s is used and not declared: check for it with command -v %s, or write # %s tools %s", c.name, c.name, marker, c.name)
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
	for _, c := range u.images {
		d.image(c.name, place(c.pos), "")
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
