package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestDiffOfDocumentsNamesTheLinesThatItShows in both of them, however close to each
// other changes are.
func TestDiffOfDocumentsNamesTheLinesThatItShows(t *testing.T) {
	d := rand.New(rand.NewPCG(1, 0))
	for range 300 {
		var before, after []string
		for n := range d.IntN(60) {
			line := fmt.Sprintf("key%d: 1\n", n)
			switch d.IntN(12) {
			case 0:
				before = append(before, line)
			case 1:
				after = append(after, line)
			case 2:
				before, after = append(before, line), append(after, strings.ToUpper(line))
			default:
				before, after = append(before, line), append(after, line)
			}
		}
		diff, err := unified("now", "then", strings.Join(before, ""), strings.Join(after, ""))
		if err != nil {
			t.Fatal(err)
		}
		for _, hunk := range strings.Split("\n"+diff, "\n@@ ")[1:] {
			header, body, _ := strings.Cut(hunk, " @@\n")
			from, to, _ := strings.Cut(header, " ")
			for _, side := range []struct {
				at, marks string
				text      []string
			}{{from, " -", before}, {to, " +", after}} {
				var want []string
				for line := range strings.Lines(body) {
					if strings.ContainsRune(side.marks, rune(line[0])) {
						want = append(want, strings.TrimRight(line[1:], "\n"))
					}
				}
				begin, count := 0, 1
				if n, _ := fmt.Sscanf(side.at[1:], "%d,%d", &begin, &count); n == 0 {
					t.Fatalf("%q", header)
				}
				var found []string
				for _, line := range side.text[max(0, begin-1):][:count] {
					found = append(found, strings.TrimRight(line, "\n"))
				}
				if !slices.Equal(found, want) {
					t.Fatalf("%s names %q, and shows %q, in\n%s", side.at, found, want, diff)
				}
			}
		}
	}
}
