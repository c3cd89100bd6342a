package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/porttest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// shellLines are the commands in the page, with what << puts into them. The
// first word tells them from what they print and from documents: those here,
// and words.
func shellLines(page string, words ...string) string {
	words = append(words, "agentd", "cat", "echo")
	var script strings.Builder
	here := false
	for line := range strings.Lines(page) {
		code, indented := strings.CutPrefix(line, "    ")
		word, _, _ := strings.Cut(code, " ")
		command := indented && (slices.Contains(words, word) || strings.HasPrefix(word, "EDITOR="))
		if command || here {
			script.WriteString(code)
		}
		switch {
		case command && strings.Contains(code, "<<'END'"):
			here = true
		case here && strings.TrimSpace(code) == "END":
			here = false
		}
	}
	return script.String()
}

// TestCommandsOfTheConfigurationPageWork as they are printed.
func TestCommandsOfTheConfigurationPageWork(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	s.start("--group", "web")
	s.start("--group", "web", "--id", "a2", "--state-dir", filepath.Join(s.dir, "state2"), "--listen", porttest.Address(t), "--admin", porttest.Address(t))
	waittest.Until(t, "the schema is published", func() bool {
		found, err := config.Schemas(t.Context(), s.etcd.Client(t), "")
		return err == nil && len(found.Schemas) == 1
	})
	dir := t.TempDir()
	if err := os.Symlink(binary(t, "1.0.0"), filepath.Join(dir, "agentd")); err != nil {
		t.Fatal(err)
	}
	script := shellLines(string(page))
	if strings.Count(script, "agentd config") < 15 {
		t.Fatalf("too few commands were found:\n%s", script)
	}
	sh := exec.CommandContext(t.Context(), "sh", "-ex")
	sh.Dir, sh.Stdin = dir, strings.NewReader(script)
	sh.Env = append(os.Environ(), "AGENTD_ETCD="+s.etcd.URL(), "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := sh.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"2 of 2 agents run it", "group/web", "-log: {level: warn}"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("want %q in what they print:\n%s", want, out)
		}
	}
}
