package agent

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode"
)

// String is the tree as text, a node a line, the worst of each first as far as
// the tree is sorted so. Text that is no single printable line is put into one.
func (n Node) String() string {
	var b strings.Builder
	n.write(&b, "", "", maxTreeDepth)
	return b.String()
}

func (n Node) write(b *strings.Builder, lead, below string, depth int) {
	b.WriteString(lead + n.line() + "\n")
	if depth == 0 {
		n.Children, n.LeftOut = nil, n.LeftOut+len(n.Children)
	}
	for i, c := range n.Children {
		if i == len(n.Children)-1 && n.LeftOut == 0 {
			c.write(b, below+"└ ", below+"  ", depth-1)
		} else {
			c.write(b, below+"├ ", below+"│ ", depth-1)
		}
	}
	if n.LeftOut > 0 {
		fmt.Fprintf(b, "%s└ and %d more, none worse\n", below, n.LeftOut)
	}
}

func (n Node) line() string {
	text := n.Name
	if n.Severity != SeverityOK {
		text += " [" + n.Severity.String() + "]"
	}
	if n.State != "" {
		text += " " + n.State
	}
	if n.Reason != "" {
		text += ": " + n.Reason
	}
	if !n.Since.IsZero() {
		text += " (since " + n.Since.UTC().Format(time.DateTime) + ")"
	}
	return printable(text)
}

// printable is text in one line, fit for a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// serveStatus answers with the agent's status, whole and with its tree: as JSON,
// or the tree as text where that is what the client prefers or format=text asks
// for.
func (a *Agent) serveStatus(w http.ResponseWriter, r *http.Request) {
	status := a.status()
	tree := a.Tree()
	status.Tree = &tree
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	format := r.URL.Query().Get("format")
	switch {
	case format == "text", format == "" && strings.HasPrefix(r.Header.Get("Accept"), "text/plain"):
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, tree.String())
	case format == "", format == "json":
		shown(func() any { return status }).ServeHTTP(w, r)
	default:
		http.Error(w, fmt.Sprintf("format: want json or text, found %.40q", format), http.StatusBadRequest)
	}
}
