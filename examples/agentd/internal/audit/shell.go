package audit

import (
	"errors"
	"runtime"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// maxFrames bounds how deep the parser of scripts may call itself. It does so
// for each level of nesting, and a stack that overflows ends the process.
const maxFrames = 4000

var errNested = errors.New("it is nested deeper than a script is read")

// parseShell reads a script, within maxFrames.
func parseShell(text string, variant syntax.LangVariant) (*syntax.File, error) {
	r := &shallow{text: strings.NewReader(text)}
	file, err := syntax.NewParser(syntax.Variant(variant), syntax.KeepComments(true)).Parse(r, "")
	if r.deep {
		err = errNested // instead of what is wrong with the part before
	}
	return file, err
}

// shallow is the text of a script, and ends where the parser that reads it is
// nested too deep. The parser reads from wherever it is, a kilobyte at a time:
// that is how far it can go beyond.
type shallow struct {
	text *strings.Reader
	deep bool
}

// Read implements io.Reader.
func (s *shallow) Read(p []byte) (int, error) {
	if runtime.Callers(maxFrames, make([]uintptr, 1)) > 0 {
		s.deep = true
		return 0, errNested
	}
	return s.text.Read(p)
}

// comments calls f with each comment of a script.
func comments(file *syntax.File, f func(c *syntax.Comment)) {
	syntax.Walk(file, func(n syntax.Node) bool {
		if c, ok := n.(*syntax.Comment); ok {
			f(c)
		}
		return true
	})
}
