package main

import (
	"fmt"
	"slices"
	"strings"
)

// diffContext is how many lines of context a diff has around a change.
const diffContext = 3

// lineDiff is the unified diff of a file of which lines were changed, and none
// added or removed. What patch compares is as in the file; what a terminal would
// obey is replaced.
func lineDiff(name, before, after string) string {
	olds, news := slices.Collect(strings.Lines(before)), slices.Collect(strings.Lines(after))
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s\n+++ %[1]s\n", printable(name))
	for n := 0; n < len(olds); {
		if olds[n] == news[n] {
			n++
			continue
		}
		begin, end := max(0, n-diffContext), n+1
		for i := n; i < len(olds) && i <= end+2*diffContext; i++ {
			if olds[i] != news[i] {
				end = i + 1
			}
		}
		n = end
		end = min(len(olds), end+diffContext)
		fmt.Fprintf(&b, "@@ -%d,%d +%[1]d,%[2]d @@\n", begin+1, end-begin)
		for i := begin; i < end; {
			for ; i < end && olds[i] == news[i]; i++ {
				b.WriteString(diffLine(' ', olds[i], i == 0))
			}
			first := i
			for ; i < end && olds[i] != news[i]; i++ {
				b.WriteString(diffLine('-', olds[i], i == 0))
			}
			for ; first < i; first++ {
				b.WriteString(diffLine('+', news[first], first == 0))
			}
		}
	}
	return b.String()
}

// diffLine is a line of a diff. A byte order mark and the end of a line are kept:
// patch compares them.
func diffLine(mark byte, line string, first bool) string {
	const bom = "\ufeff"
	text := strings.TrimRight(line, "\r\n")
	end := line[len(text):]
	if rest, ok := strings.CutPrefix(text, bom); ok && first {
		text = bom + printable(rest)
	} else {
		text = printable(text)
	}
	if !strings.HasSuffix(end, "\n") {
		end += "\n\\ No newline at end of file\n"
	}
	return string(mark) + text + end
}
