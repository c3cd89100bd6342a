package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestCommandsOfThePluginsPageWork as they are printed: an author who follows
// them gets a signed plugin that does tasks.
func TestCommandsOfThePluginsPageWork(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/plugins.md")
	if err != nil {
		t.Fatal(err)
	}
	clone, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	newSite(t).runPage(t.TempDir(), shellLines(string(page), "mkdir", "go", "if", "kill"), []string{"a1"},
		[]string{"PERENNIAL=" + clone, "GOWORK=", "GOFLAGS=-buildvcs=false"},
		"Hello, world!", "Hello, new world!", "Hello, again!", "greets too loudly", `want {"name"`, "signed by key")
}
