package main

import (
	"strings"
	"testing"
)

// TestScreenNeverDrawsMoreThanTheTerminalHas: a line that wraps, or one too many,
// would scroll, and leave old lines standing above the new.
func TestScreenNeverDrawsMoreThanTheTerminalHas(t *testing.T) {
	var out strings.Builder
	width, height := 40, 6
	s := &screen{w: &out, size: func() (int, int) { return width, height }}
	draw := func(lines ...string) string {
		t.Helper()
		out.Reset()
		if err := s.draw(func(int) []string { return lines }); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if got := draw("a", "b"); got != "\r\x1b[Ja\nb\n" {
		t.Errorf("drew %q", got)
	}
	if got := draw("c"); got != "\x1b[2A\r\x1b[Jc\n" {
		t.Errorf("drew %q over two lines", got)
	}
	got := draw("1", strings.Repeat("x", 100), "3", "4", "5", "6", "7")
	if !strings.HasPrefix(got, "\x1b[1A") || strings.Count(got, "\n") != height-1 || strings.Contains(got, strings.Repeat("x", width)) {
		t.Errorf("drew %q on %d lines of %d", got, height, width)
	}
	height = 4 // it was made smaller
	if got := draw("a"); !strings.HasPrefix(got, "\x1b[3A") {
		t.Errorf("drew %q", got)
	}
	if got := draw("evil\x1b[2Jagent"); strings.Contains(got, "evil\x1b") {
		t.Errorf("what an agent wrote is obeyed: %q", got)
	}
}
