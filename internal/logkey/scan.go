package logkey

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Violation is a log line, or the declaration of a logger, that breaks a rule.
type Violation struct {
	// At is file:line, the file relative to the repository.
	At, Rule string
}

func (v Violation) String() string { return v.At + ": " + v.Rule }

// Result is what a scan has seen.
type Result struct {
	Violations []Violation
	// Lines counts the calls that write a line or make a logger for lines.
	Lines int
	// Used tells how often each key is written.
	Used map[string]int
}

// Scan looks at every Go file under root but tests and generated code,
// whatever its build constraints. The rules:
//
//   - the message is a string literal, with nothing put into it;
//   - each key is a string literal out of keys, and has a value;
//   - attributes come from the functions of slog, or from a variable that is
//     one, and never from a slice, which could hold any key;
//   - a logger is called log, logger or Logger, or in a name's last part so,
//     by which the scan knows one.
func Scan(root string, keys []Key) (Result, error) {
	s := scan{fset: token.NewFileSet(), known: map[string]bool{}}
	s.Used = map[string]int{}
	for _, k := range keys {
		s.known[k.Name] = true
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		ignored := name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")
		switch {
		case d.IsDir() && ignored && path != root:
			return fs.SkipDir
		case d.IsDir(), ignored, filepath.Ext(name) != ".go", strings.HasSuffix(name, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(s.fset, path, nil, parser.ParseComments)
		if err != nil || ast.IsGenerated(file) {
			return err
		}
		rel, err := filepath.Rel(root, path)
		s.path = filepath.ToSlash(rel)
		ast.Inspect(file, s.look)
		return err
	})
	return s.Result, err
}

type scan struct {
	Result

	fset  *token.FileSet
	known map[string]bool
	path  string
}

func (s *scan) fault(n ast.Node, format string, args ...any) {
	at := fmt.Sprintf("%s:%d", s.path, s.fset.Position(n.Pos()).Line)
	s.Violations = append(s.Violations, Violation{at, fmt.Sprintf(format, args...)})
}

func (s *scan) look(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.Field: // of a struct, and parameters
		s.declared(n.Type, n.Names)
	case *ast.ValueSpec:
		s.declared(n.Type, n.Names)
	case *ast.CallExpr:
		s.call(n)
	}
	return true
}

// logger matches the names by which a logger is known.
var logger = regexp.MustCompile(`^(log|logger|Logger)$|[a-z](Log|Logger)$`) //nolint:gochecknoglobals // nothing writes to it

func (s *scan) declared(typ ast.Expr, names []*ast.Ident) {
	star, ok := typ.(*ast.StarExpr)
	if !ok {
		return
	}
	if pkg, name := selected(star.X); pkg != "slog" || name != "Logger" {
		return
	}
	for _, id := range names {
		if id.Name != "_" && !logger.MatchString(id.Name) {
			s.fault(id, "want a *slog.Logger to be called log, logger or Logger, by which its lines are found, found %s", id.Name)
		}
	}
}

// call looks at a call of a logger's method or of a function that makes an
// attribute.
func (s *scan) call(c *ast.CallExpr) {
	f, ok := c.Fun.(*ast.SelectorExpr)
	if !ok {
		return
	}
	if pkg, name := selected(f); pkg == "slog" {
		switch name {
		case "String", "Int", "Int64", "Uint64", "Float64", "Bool", "Time", "Duration", "Any", "Group":
			s.key(c.Args[0])
		}
		return
	}
	if !isLogger(f.X) {
		return
	}
	message := -1 // where the attributes follow
	switch f.Sel.Name {
	case "Debug", "Info", "Warn", "Error":
		message = 0
	case "DebugContext", "InfoContext", "WarnContext", "ErrorContext":
		message = 1
	case "Log", "LogAttrs":
		message = 2
	case "With":
	case "WithGroup":
		s.fault(c, "want no groups: a key stands for the same everywhere")
		return
	default:
		return
	}
	if len(c.Args) <= message {
		return // it does not compile
	}
	s.Lines++
	if message >= 0 && !literal(c.Args[message]) {
		s.fault(c, "want the message to be a string literal, with what varies in attributes")
	}
	s.attributes(c, c.Args[message+1:], f.Sel.Name == "LogAttrs")
}

// attributes looks at the arguments behind a message, which are keys with
// their values by turns, or attributes.
func (s *scan) attributes(c *ast.CallExpr, args []ast.Expr, attrs bool) {
	if c.Ellipsis.IsValid() {
		s.fault(c, "want the attributes one by one, found a slice of them, which could have any key")
		return
	}
	for i := 0; i < len(args); i++ {
		if pkg, _ := selectedCall(args[i]); pkg == "slog" {
			continue // looked at by itself
		}
		if _, variable := args[i].(*ast.Ident); variable && attrs {
			continue // an slog.Attr, made by a function of slog
		}
		s.key(args[i])
		if i++; i == len(args) {
			s.fault(c, "want a value behind each key")
		}
	}
}

func (s *scan) key(e ast.Expr) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		s.fault(e, "want the key to be a string literal")
		return
	}
	name, err := strconv.Unquote(lit.Value)
	if s.Used[name]++; err != nil || !s.known[name] {
		s.fault(e, "want one of the keys of internal/logkey, found %s: take the one that means the same, or add it there and to docs/observability.md", lit.Value)
	}
}

// isLogger tells by its name, or that it is what a logger's With returns.
func isLogger(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return logger.MatchString(e.Name)
	case *ast.SelectorExpr:
		return logger.MatchString(e.Sel.Name)
	case *ast.CallExpr:
		switch f := e.Fun.(type) {
		case *ast.Ident:
			return logger.MatchString(f.Name)
		case *ast.SelectorExpr:
			return logger.MatchString(f.Sel.Name) || f.Sel.Name == "With" && isLogger(f.X)
		}
	}
	return false
}

// literal tells whether e is a string literal, or several put together.
func literal(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return e.Kind == token.STRING
	case *ast.BinaryExpr:
		return e.Op == token.ADD && literal(e.X) && literal(e.Y)
	}
	return false
}

// selected takes pkg.Name apart; "" for anything else.
func selected(e ast.Expr) (pkg, name string) {
	f, ok := e.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	if x, ok := f.X.(*ast.Ident); ok {
		return x.Name, f.Sel.Name
	}
	return "", f.Sel.Name
}

func selectedCall(e ast.Expr) (pkg, name string) {
	if c, ok := e.(*ast.CallExpr); ok {
		return selected(c.Fun)
	}
	return "", ""
}
