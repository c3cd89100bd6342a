package main

import (
	"os"
	"strings"
	"testing"
)

func TestTheReadmePrintsThisProgramAsItCompiles(t *testing.T) {
	code, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "```go\n"+string(code)+"```\n") {
		t.Error("README.md prints another program than examples/hello/main.go: copy it there")
	}
	lines := 0
	for line := range strings.Lines(string(code)) {
		if strings.TrimSpace(line) != "" {
			lines++
		}
	}
	if lines > 40 {
		t.Errorf("the quick start has %d lines of Go, 40 are promised", lines)
	}
	if n := strings.Count(string(readme), "\n"); n > 200 {
		t.Errorf("README.md has %d lines, 200 are the limit", n)
	}
}
