package audit

import (
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// named is something that a script names, and where.
type named struct {
	name  string
	shown string // as it is written; only of what is sourced
	pos   syntax.Pos
}

// use is what a script declares and uses.
type use struct {
	sets  map[string]bool     // variables that it sets, or copes with the lack of
	tools map[string]bool     // functions, and programs that it looks for first
	loops map[string][]string // what a variable of a loop goes through

	reads, calls    []named
	sources, images []named
}

func newUse() *use {
	return &use{sets: map[string]bool{}, tools: map[string]bool{}, loops: map[string][]string{}}
}

// take adds what a sourced file sets. What it uses is judged with that file.
func (u *use) take(other *use) {
	for name := range other.sets {
		u.sets[name] = true
	}
	for name := range other.tools {
		u.tools[name] = true
	}
}

// read goes through a script. Order does not count: a function may set what
// stands above it.
func (u *use) read(file *syntax.File) {
	syntax.Walk(file, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Assign:
			if n.Name != nil && (!n.Naked) {
				u.sets[n.Name.Value] = true
			}
		case *syntax.DeclClause:
			u.declares(n)
		case *syntax.FuncDecl:
			if n.Name != nil {
				u.tools[n.Name.Value] = true
			}
		case *syntax.WordIter:
			u.iterates(n)
		case *syntax.CoprocClause:
			u.sets["COPROC"] = true
			if name := literal(n.Name); name != "" {
				u.sets[name] = true
			}
		case *syntax.Redirect:
			if n.N != nil {
				u.sets[strings.Trim(n.N.Value, "{}")] = true
			}
		case *syntax.ParamExp:
			u.expansion(n)
		case *syntax.BinaryArithm:
			u.arithmetic(n)
		case *syntax.UnaryArithm:
			if n.Op == syntax.Inc || n.Op == syntax.Dec {
				u.setBy(n.X)
			}
		case *syntax.UnaryTest:
			u.test(n)
		case *syntax.CallExpr:
			u.call(n.Args)
		}
		return true
	})
}

// iterates takes for x in a b c, where x is each of the words until another loop
// says something else.
func (u *use) iterates(n *syntax.WordIter) {
	u.sets[n.Name.Value] = true
	var words []string
	for _, w := range n.Items {
		words = append(words, literal(w))
	}
	u.loops[n.Name.Value] = words
}

// declares takes local x, declare x, which set a name also without a value;
// export x and readonly x do not.
func (u *use) declares(n *syntax.DeclClause) {
	if n.Variant.Value == "export" || n.Variant.Value == "readonly" {
		return
	}
	for _, a := range n.Args {
		if a.Name != nil {
			u.sets[a.Name.Value] = true
		}
	}
}

// expansion is a use, unless it says what is to happen without a value.
func (u *use) expansion(n *syntax.ParamExp) {
	if n.Param == nil {
		return
	}
	name := n.Param.Value
	if name == "" || !nameByte(name[0], true) {
		return // $1, $@, $? and their like
	}
	if n.Exp != nil {
		switch n.Exp.Op {
		case syntax.AlternateUnset, syntax.AlternateUnsetOrNull, syntax.DefaultUnset, syntax.DefaultUnsetOrNull,
			syntax.ErrorUnset, syntax.ErrorUnsetOrNull, syntax.AssignUnset, syntax.AssignUnsetOrNull:
			u.sets[name] = true
			return
		default:
		}
	}
	u.reads = append(u.reads, named{name: name, pos: n.Pos()})
}

func (u *use) arithmetic(n *syntax.BinaryArithm) {
	switch n.Op {
	case syntax.Assgn, syntax.AddAssgn, syntax.SubAssgn, syntax.MulAssgn, syntax.QuoAssgn, syntax.RemAssgn,
		syntax.AndAssgn, syntax.OrAssgn, syntax.XorAssgn, syntax.ShlAssgn, syntax.ShrAssgn:
		u.setBy(n.X)
	default:
	}
}

func (u *use) setBy(x syntax.ArithmExpr) {
	if w, ok := x.(*syntax.Word); ok && literal(w) != "" {
		u.sets[literal(w)] = true
	}
}

// test takes [[ -v X ]], [[ -z $X ]] and [[ -n $X ]]: what is asked about may
// be without a value.
func (u *use) test(n *syntax.UnaryTest) {
	w, ok := n.X.(*syntax.Word)
	if !ok {
		return
	}
	switch n.Op {
	case syntax.TsVarSet:
		u.sets[literal(w)] = true
	case syntax.TsEmpStr, syntax.TsNempStr:
		u.sets[variable(w)] = true
	default:
	}
}

// literal returns what a word says if nothing in it is to be expanded.
func literal(w *syntax.Word) string {
	if w == nil {
		return ""
	}
	var b strings.Builder
	for _, part := range w.Parts {
		switch part := part.(type) {
		case *syntax.Lit:
			b.WriteString(part.Value)
		case *syntax.SglQuoted:
			b.WriteString(part.Value)
		case *syntax.DblQuoted:
			for _, inner := range part.Parts {
				lit, ok := inner.(*syntax.Lit)
				if !ok {
					return ""
				}
				b.WriteString(lit.Value)
			}
		default:
			return ""
		}
	}
	return b.String()
}

// variable returns the name of the variable that a word is, and nothing else.
func variable(w *syntax.Word) string {
	if w == nil || len(w.Parts) != 1 {
		return ""
	}
	part := w.Parts[0]
	if q, ok := part.(*syntax.DblQuoted); ok && len(q.Parts) == 1 {
		part = q.Parts[0]
	}
	if p, ok := part.(*syntax.ParamExp); ok && p.Param != nil {
		return p.Param.Value
	}
	return ""
}

// call reads a simple command.
func (u *use) call(args []*syntax.Word) {
	if len(args) == 0 {
		return
	}
	name := literal(args[0])
	switch name {
	case "", ":", "true", "false":
	case ".", "source":
		if len(args) > 1 {
			u.sources = append(u.sources, named{sourcePath(args[1]), shown(args[1]), args[0].Pos()})
		}
	case "[", "test":
		for i, w := range args[:len(args)-1] {
			if op := literal(w); op == "-z" || op == "-n" {
				u.sets[variable(args[i+1])] = true
			}
		}
	case "command", "type", "which", "hash":
		u.looksFor(name, args)
	default:
		if !strings.Contains(name, "/") { // a path is of the tree, or absolute and so declared
			u.calls = append(u.calls, named{name: name, pos: args[0].Pos()})
		}
		u.given(name, args)
	}
}

// given reads what the arguments of some programs mean.
func (u *use) given(name string, args []*syntax.Word) {
	if w, ok := wrapperOf(name); ok {
		u.wrapped(w, args[1:])
	}
	switch name {
	case "docker", "podman", "nerdctl":
		u.container(args[1:])
	case "find":
		u.found(args[1:])
	case "sh", "bash", "dash", "ash", "ksh", "mksh":
		u.shell(args[1:])
	default:
		u.assigns(name, args)
	}
}

// looksFor takes command -v x and its like, after which x is declared.
func (u *use) looksFor(name string, args []*syntax.Word) {
	if name == "command" && (len(args) < 2 || !strings.HasPrefix(literal(args[1]), "-")) {
		u.wrapped(wrapper{}, args[1:])
		return
	}
	if name == "which" {
		u.calls = append(u.calls, named{name: name, pos: args[0].Pos()})
	}
	for _, w := range args[1:] {
		if tool := literal(w); tool != "" && !strings.HasPrefix(tool, "-") {
			u.tools[tool] = true
		}
		for _, tool := range u.loops[variable(w)] {
			u.tools[tool] = true
		}
	}
}

// assignment reports whether a word is NAME=… with something to be expanded.
func assignment(w *syntax.Word) bool {
	lit, ok := w.Parts[0].(*syntax.Lit)
	return ok && strings.Contains(lit.Value, "=")
}

// assigns takes the variables that builtins set.
func (u *use) assigns(name string, args []*syntax.Word) {
	switch name {
	case "read", "mapfile", "readarray", "unset", "wait":
		for _, w := range args[1:] {
			if lit := literal(w); lit != "" && nameByte(lit[0], true) {
				u.sets[lit] = true
			}
		}
	case "getopts":
		if len(args) > 2 {
			u.sets[literal(args[2])] = true
		}
	case "printf":
		if len(args) > 2 && literal(args[1]) == "-v" {
			u.sets[literal(args[2])] = true
		}
	}
}

// container takes the image of docker pull IMAGE, run, create, and the same below
// image and container. It is the first word that is neither an option nor the
// value of one.
func (u *use) container(args []*syntax.Word) {
	for len(args) > 0 && len(args[0].Parts) > 0 && startsAsOption(args[0]) {
		words := 1
		if generalOptionTakesNext(literal(args[0])) {
			words = 2
		}
		args = args[min(words, len(args)):]
	}
	if len(args) > 0 && (literal(args[0]) == "image" || literal(args[0]) == "container") {
		args = args[1:]
	}
	if len(args) < 2 || !slices.Contains([]string{"pull", "run", "create"}, literal(args[0])) {
		return
	}
	run := literal(args[0]) != "pull"
	for i := 1; i < len(args); i++ {
		lit := literal(args[i])
		switch {
		case lit == "--rootfs": // a directory instead of an image
			return
		case strings.HasPrefix(lit, "-"):
			if optionTakesNext(lit, run) {
				i++
			}
		case lit == "" && len(args[i].Parts) > 0 && startsAsOption(args[i]):
		case lit == "" || run && strings.ContainsAny(lit, "= "):
			return
		default:
			u.images = append(u.images, named{name: lit, pos: args[i].Pos()})
			return
		}
	}
}

// generalOptionTakesNext is that of the options before pull, run, and create.
func generalOptionTakesNext(option string) bool {
	if option == "" || strings.Contains(option, "=") {
		return false
	}
	return !slices.Contains([]string{
		"-D", "-h", "-r", "-v", "--debug", "--debug-full", "--experimental", "--help", "--insecure-registry", "--noout",
		"--remote", "--syslog", "--tls", "--tlsverify", "--transient-store", "--version",
	}, option)
}

// optionTakesNext reports whether the value of an option of docker, podman or
// nerdctl is the next word. Those without a value are fewer, and new ones are
// rare: each other one has a value.
func optionTakesNext(option string, run bool) bool {
	if name, long := strings.CutPrefix(option, "--"); long {
		return name != "" && !strings.Contains(name, "=") && !slices.Contains([]string{
			"all-platforms", "all-tags", "detach", "disable-content-trust", "env-host", "help", "http-proxy", "init",
			"interactive", "no-healthcheck", "no-hostname", "no-hosts", "oom-kill-disable", "passwd", "privileged", "publish-all",
			"quiet", "read-only", "read-only-tmpfs", "replace", "rm", "rmi", "sig-proxy", "tls-verify", "tty",
			"unsetenv-all", "use-api-socket",
		}, name)
	}
	single := "ditPq"
	if !run {
		single = "aq"
	}
	rest := strings.TrimLeft(option[1:], single) // -itv is -i -t -v, and -p80:80 has its value
	return len(rest) == 1
}

func startsAsOption(w *syntax.Word) bool {
	lit, ok := w.Parts[0].(*syntax.Lit)
	return ok && strings.HasPrefix(lit.Value, "-")
}

// sourcePath returns the path of a sourced file: the whole word, or what
// follows the directory that the script computes, as in "$(dirname "$0")/x".
func sourcePath(w *syntax.Word) string {
	if whole := literal(w); whole != "" {
		return whole
	}
	parts := w.Parts
	if q, ok := parts[0].(*syntax.DblQuoted); ok && len(parts) == 1 {
		parts = q.Parts
	}
	if len(parts) == 0 {
		return ""
	}
	lit, ok := parts[len(parts)-1].(*syntax.Lit)
	if !ok || len(parts) != 2 && len(w.Parts) != 2 || !strings.HasPrefix(lit.Value, "/") {
		return ""
	}
	return strings.TrimPrefix(lit.Value, "/")
}

// shown is a word as it is written.
func shown(w *syntax.Word) string {
	var b strings.Builder
	if err := syntax.NewPrinter().Print(&b, w); err != nil {
		return "?"
	}
	return b.String()
}
