package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// The looks of a line; plain where standard output is no terminal.
const (
	plain = ""
	bold  = "1"
	dim   = "2"
	red   = "31;1"
	green = "32"
)

// screen shows lines with the time since the beginning, and on a terminal
// one more below them that changes. Its methods may be called concurrently.
type screen struct {
	began time.Time

	mu       sync.Mutex
	out      *os.File
	terminal bool
	colour   bool
	passing  bool // the lowest line is one that changes
}

func newScreen(out *os.File) *screen {
	fi, err := out.Stat()
	terminal := err == nil && fi.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	plainly := os.Getenv("NO_COLOR") != "" //nolint:misspell // the name is no-color.org's
	return &screen{began: time.Now(), out: out, terminal: terminal, colour: terminal && !plainly}
}

// line prints a line that stays.
func (s *screen) line(look, format string, args ...any) {
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\n                ")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wipe()
	if s.colour && look != plain {
		text = "\x1b[" + look + "m" + text + "\x1b[0m"
	}
	// There is nobody to tell when the reader has gone; SIGPIPE tells us.
	_, _ = fmt.Fprintf(s.out, "%8.2fs %s\n", time.Since(s.began).Seconds(), text)
}

// pass shows text until the next line; only on a terminal.
func (s *screen) pass(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.terminal {
		return
	}
	s.wipe()
	text := fmt.Sprintf("%8.2fs       %s", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
	_, _ = fmt.Fprint(s.out, cut(text, 79))
	s.passing = true
}

// wipe removes the line that changes.
func (s *screen) wipe() {
	if s.passing {
		_, _ = fmt.Fprint(s.out, "\r\x1b[K")
		s.passing = false
	}
}

func (s *screen) step(n, of int, title string) { s.line(bold, "%2d/%d %s", n, of, title) }

// detail shows one line of what a step sees; what matters of it comes again
// in full when the step ends.
func (s *screen) detail(format string, args ...any) {
	s.line(dim, "      %s", cut(fmt.Sprintf(format, args...), 110))
}

// cut shortens a line to so many characters.
func cut(text string, most int) string {
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}

func (s *screen) succeeded(format string, args ...any) {
	s.line(green, "      ok %s", fmt.Sprintf(format, args...))
}

func (s *screen) failed(format string, args ...any) {
	s.line(red, "      FAILED %s", fmt.Sprintf(format, args...))
}

// number writes thousands apart.
func number(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// round cuts a duration to what people can tell apart.
func round(d time.Duration) time.Duration {
	if d > 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}
