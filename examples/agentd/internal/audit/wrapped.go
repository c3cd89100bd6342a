package audit

import (
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// wrapper is how a program is given the command that it runs.
type wrapper struct {
	flags  string   // letters of options without a value
	valued string   // letters of options with one
	long   []string // long options whose value may be the next word
	words  int      // words before the command
}

// wrapperOf returns how a program of that name is given a command, not ok if it
// is given none.
func wrapperOf(name string) (w wrapper, ok bool) {
	switch name {
	case "nohup", "builtin", "tini", "dumb-init":
		return wrapper{}, true
	case "exec":
		return wrapper{flags: "cl", valued: "a"}, true
	case "time":
		return wrapper{flags: "apqvV", valued: "fo", long: []string{"format", "output"}}, true
	case "nice":
		return wrapper{flags: "0123456789", valued: "n", long: []string{"adjustment"}}, true
	case "setsid":
		return wrapper{flags: "cfw"}, true
	case "stdbuf":
		return wrapper{valued: "ioe", long: []string{"input", "output", "error"}}, true
	case "gosu", "su-exec":
		return wrapper{words: 1}, true
	case "flock":
		return wrapper{flags: "senuxoFv", valued: "wE", long: []string{"timeout", "wait", "conflict-exit-code"}, words: 1}, true
	case "ionice":
		return wrapper{flags: "t", valued: "cn", long: []string{"class", "classdata"}}, true
	case "timeout":
		return wrapper{flags: "fpv", valued: "ks", long: []string{"kill-after", "signal"}, words: 1}, true
	case "env":
		return wrapper{flags: "0iv", valued: "uC", long: []string{"unset", "chdir"}}, true
	case "xargs":
		return wrapper{flags: "0oprtx", valued: "adEILnPsJRS", long: []string{"arg-file", "delimiter", "max-args", "max-procs", "max-chars", "process-slot-var"}}, true
	case "sudo":
		return wrapper{flags: "ABbEHiknPSs", valued: "CDghpRrTtUu", long: []string{"user", "group", "host", "prompt", "chdir", "chroot", "close-from", "command-timeout", "other-user", "role", "type"}}, true
	case "doas":
		return wrapper{flags: "nsL", valued: "uC"}, true
	}
	return wrapper{}, false
}

// wrapped reads the command that a wrapper is given. Behind an option that is not
// known here, what follows is not known either.
func (u *use) wrapped(by wrapper, args []*syntax.Word) {
	words := by.words
	for i := 0; i < len(args); i++ {
		w := args[i]
		switch lit := literal(w); {
		case lit == "--":
		case lit == "" && len(w.Parts) > 0 && startsAsOption(w):
			return
		case strings.HasPrefix(lit, "-") && lit != "-":
			next, known := by.option(lit)
			if !known {
				return
			}
			i += next
		case words > 0:
			words--
		case lit == "" && len(w.Parts) > 0 && assignment(w):
		case strings.Contains(lit, "="):
		default:
			u.call(args[i:])
			return
		}
	}
}

// option returns how many words after an option are its value.
func (w wrapper) option(option string) (next int, known bool) {
	if name, ok := strings.CutPrefix(option, "--"); ok {
		if slices.Contains(w.long, name) {
			return 1, true
		}
		return 0, true // one that is for help and the like has no command behind it
	}
	rest := strings.TrimLeft(option[1:], w.flags)
	switch {
	case rest == "":
		return 0, true
	case !strings.Contains(w.valued, rest[:1]):
		return 0, false
	case len(rest) > 1:
		return 0, true
	}
	return 1, true
}

// found reads the commands that find runs.
func (u *use) found(args []*syntax.Word) {
	for i := 0; i < len(args); i++ {
		if !slices.Contains([]string{"-exec", "-execdir", "-ok", "-okdir"}, literal(args[i])) {
			continue
		}
		begin := i + 1
		for i = begin; i < len(args) && !slices.Contains([]string{";", `\;`, "+"}, literal(args[i])); {
			i++
		}
		u.call(args[begin:i])
	}
}

// shell reads the script that sh -c is given, for the programs and images that it
// uses. They are told where the word stands.
func (u *use) shell(args []*syntax.Word) {
	for i := 0; i < len(args); i++ {
		lit := literal(args[i])
		if !strings.HasPrefix(lit, "-") && !strings.HasPrefix(lit, "+") {
			return
		}
		if strings.HasPrefix(lit, "--") {
			continue
		}
		if strings.Contains(lit, "o") {
			i++ // -euo pipefail
		}
		if strings.Contains(lit, "c") && i+1 < len(args) {
			u.body(args[i+1])
			return
		}
	}
}

// body reads what is a script in one word. Where something is expanded in it, a
// path stands: whatever it is, it is no name of a program.
func (u *use) body(w *syntax.Word) {
	file, err := parseShell(bodyText(w), syntax.LangBash)
	if err != nil {
		return
	}
	inner := newUse()
	inner.read(file)
	for name := range inner.tools {
		u.tools[name] = true
	}
	for _, c := range inner.calls {
		u.calls = append(u.calls, named{name: c.name, pos: w.Pos()})
	}
	for _, c := range inner.images {
		if !strings.Contains(c.name, unknownPath) {
			u.images = append(u.images, named{name: c.name, pos: w.Pos()})
		}
	}
}

// unknownPath stands for what is expanded in a script in one word.
const unknownPath = "/expanded"

func bodyText(w *syntax.Word) string {
	var b strings.Builder
	add := func(part syntax.WordPart, unescape *strings.Replacer) {
		switch part := part.(type) {
		case *syntax.Lit:
			b.WriteString(unescape.Replace(part.Value))
		case *syntax.SglQuoted:
			b.WriteString(part.Value)
		default:
			b.WriteString(unknownPath)
		}
	}
	none, quoted := strings.NewReplacer(), strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\$`, `$`, "\\`", "`")
	for _, part := range w.Parts {
		inner, ok := part.(*syntax.DblQuoted)
		if !ok {
			add(part, none)
			continue
		}
		for _, part := range inner.Parts {
			add(part, quoted)
		}
	}
	return b.String()
}
