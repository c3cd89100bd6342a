package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// screen draws lines over those that it has drawn before. It takes no more of a
// terminal than what it draws, and leaves the last there.
type screen struct {
	w     io.Writer
	size  func() (width, height int)
	drawn int
}

// openScreen returns nil if w is no terminal, or a dumb one.
func openScreen(w io.Writer) *screen {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	return &screen{w: f, size: func() (int, int) {
		width, height, err := term.GetSize(int(f.Fd()))
		if err != nil || width < 20 || height < 4 {
			return 80, 24
		}
		return width, height
	}}
}

// draw replaces what is shown, in one write, so that it does not flicker. Lines
// are cut to the width, and the last left out where the terminal has fewer: one
// that wrapped or scrolled could not be drawn over.
func (s *screen) draw(lines func(width int) []string) error {
	width, height := s.size()
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", min(s.drawn, height-1))
	}
	b.WriteString("\r\x1b[J")
	all := lines(width)
	if len(all) > height-1 {
		all = all[:height-1]
	}
	for _, line := range all {
		text := []rune(printable(line))
		b.WriteString(string(text[:min(len(text), width-1)]))
		b.WriteByte('\n')
	}
	s.drawn = len(all)
	_, err := io.WriteString(s.w, b.String())
	return err
}
