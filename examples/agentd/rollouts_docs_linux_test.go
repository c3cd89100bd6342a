package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommandsOfTheRolloutsPageWork as they are printed: an operator who follows
// them sees each strategy through with real agents.
func TestCommandsOfTheRolloutsPageWork(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/rollouts.md")
	if err != nil {
		t.Fatal(err)
	}
	walk, _, _ := strings.Cut(string(page), "# Reference")
	script := shellLines(walk, "run", "run()", "until", "if", "for", "kill", "export")
	script = strings.ReplaceAll(script, "export AGENTD_ETCD=http://127.0.0.1:2379\n", "")
	if strings.Count(script, "agentd rollout ") < 20 {
		t.Fatalf("too few commands were found:\n%s", script)
	}
	dir := t.TempDir()
	link(t, "1.1.0", filepath.Join(dir, "agentd-1.1.0"))
	link(t, "1.3.0", filepath.Join(dir, "agentd-1.3.0"))
	newSite(t).runPage(dir, script, []string{"a1", "a2", "a3", "a4"}, nil,
		"is completed", "found it reverted", "the first one", "exit status 2", "is frozen", "network works until six", "is reverted")
}
