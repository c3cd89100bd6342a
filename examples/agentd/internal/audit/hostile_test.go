package audit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// within fails the test if f does not come to an end.
func within(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("the audit hangs")
	}
}

func TestLinksOutOfTheTreeAreNotFollowed(t *testing.T) {
	secret := write(t, map[string]string{"pod.yaml": "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: secret}]}\n", "d/Dockerfile": "FROM secret\n", "lib.sh": "A=secret\n", "yarn.lock": "secret@1:\n"})
	dir := write(t, map[string]string{"a.sh": ". ./lib.sh\n. ../../../../../../../../" + secret + "/lib.sh\necho $A\n", "package.json": `{"dependencies":{"secret":"1"}}`})
	for to, from := range map[string]string{
		filepath.Join(secret, "pod.yaml"): "pod.yaml", filepath.Join(secret, "d"): "d",
		filepath.Join(secret, "lib.sh"): "lib.sh", filepath.Join(secret, "yarn.lock"): "yarn.lock",
	} {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Skip(err)
		}
	}
	report := judge(t, dir, Config{})
	want := []string{"a.sh:1:1 source-unread", "package.json:1:1 lock-missing"}
	if got := lines(dir, report); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q: what lies outside was read", got, want)
	}
	if len(report.Unread) != 4 {
		t.Errorf("the links are not told: %v", report.Unread)
	}
	// What the user names is followed: it is where the tree begins.
	top := filepath.Join(t.TempDir(), "top")
	if err := os.Symlink(secret, top); err != nil {
		t.Fatal(err)
	}
	if got := lines(top, judge(t, top, Config{})); len(got) != 2 {
		t.Errorf("below a link that was given is found %q, want both images", got)
	}
}

// repeated is a format with each number below n.
func repeated(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func TestBombsAreReportedAsUnreadAndNotTakenForClean(t *testing.T) {
	var laughs strings.Builder
	laughs.WriteString("apiVersion: v1\nkind: Pod\na0: &a0 {image: x}\n")
	for i := 1; i < 40; i++ {
		last := string(rune('0' + (i-1)%10))
		prefix := strings.Repeat("a", 1+(i-1)/10) + last
		this := strings.Repeat("a", 1+i/10) + string(rune('0'+i%10))
		laughs.WriteString(this + ": &" + this + " [" + strings.TrimSuffix(strings.Repeat("*"+prefix+", ", 10), ", ") + "]\n")
	}
	script := func(s string) string { return "#!/bin/sh\n" + s }
	for name, c := range map[string]struct{ file, content string }{
		"aliases that multiply":   {"pod.yaml", laughs.String()},
		"alias of itself":         {"pod.yaml", "apiVersion: v1\nkind: Pod\na: &a [*a]\n"},
		"merge of itself":         {"pod.yaml", "apiVersion: v1\nkind: Pod\na: &a {<<: *a, containers: [{image: x}]}\n"},
		"jobs that extend all":    {".gitlab-ci.yml", "a: {extends: [a, a, a, a, a, a, a, a]}\nb: {script: [x]}\n"},
		"variables that multiply": {".gitlab-ci.yml", "variables: {A: x" + strings.Repeat("$B", 50) + ", B: x" + strings.Repeat("$C", 50) + ", C: x" + strings.Repeat("$D", 50) + ", D: ''}\na: {image: $A" + strings.Repeat("$A", 40) + "}\n"},
		"Dockerfiles that repeat": {"compose.yaml", "services:\n  a: {build: {dockerfile_inline: &i \"" + strings.Repeat("x ", 500_000) + "\"}}\n" + repeated("  a%d: {build: {dockerfile_inline: *i}}\n", 50_000)},
		"deep YAML":               {"pod.yaml", "apiVersion: v1\nkind: Pod\na: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "\n"},
		"deeper YAML":             {"pod.yaml", "apiVersion: v1\nkind: Pod\na: " + strings.Repeat("[", 900_000)},
		"large YAML":              {"pod.yaml", strings.Repeat("# x\n", maxDocument/4+1)},
		"many documents":          {"pod.yaml", "apiVersion: v1\n" + strings.Repeat("---\na\n", maxParts+1)},
		"binary":                  {"Dockerfile", "FROM x\x00"},
		"deep TOML":               {"Cargo.toml", "a = " + strings.Repeat("[", 900_000)},
		"deep JSON":               {"package.json", strings.Repeat("[", 900_000)},
		"large script":            {"a.sh", script(strings.Repeat("x\n", maxScript))},
		"script of brackets":      {"a.sh", script(strings.Repeat("(", maxScript-100))},
		"script of substitutions": {"a.sh", script(strings.Repeat("$(", maxScript/2-100))},
		"script of conditions":    {"a.sh", script(strings.Repeat("if ", maxScript/3-100))},
		"script of loops":         {"a.sh", script(strings.Repeat("while ", maxScript/6-100))},
		"script of cases":         {"a.sh", script(strings.Repeat("case x in x) ", maxScript/13-100))},
		"script of functions":     {"a.sh", script(strings.Repeat("f() ", maxScript/4-100))},
		"script of negations":     {"a.sh", script("[[ " + strings.Repeat("! ", maxScript/2-100))},
		"script of minuses":       {"a.sh", script("echo $((" + strings.Repeat("-", maxScript-100))},
		"script of questions":     {"a.sh", script("echo $((" + strings.Repeat("1?", maxScript/2-100))},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, map[string]string{c.file: c.content})
			within(t, func() {
				report := judge(t, dir, Config{})
				if !slices.ContainsFunc(report.Findings, func(f Finding) bool { return f.Rule == fileUnread }) {
					t.Errorf("found %q, want %s", lines(dir, report), fileUnread)
				}
			})
		})
	}
}

func TestGitOfAHostileRepositoryRunsNothing(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the traps are shell scripts")
	}
	dir := gitTree(t)
	sprung := filepath.Join(t.TempDir(), "sprung")
	trap := filepath.Join(t.TempDir(), "trap")
	if err := os.WriteFile(trap, []byte("#!/bin/sh\necho \"$0 $*\" >>"+sprung+"\ncat\n"), 0o700); err != nil { //nolint:gosec // a trap is executable
		t.Fatal(err)
	}
	config := ""
	for _, line := range []string{
		"[core]\nfsmonitor = %\nhooksPath = %\nsshCommand = %\npager = %\neditor = %\ngitProxy = %",
		"[filter \"x\"]\nclean = %\nsmudge = %\nprocess = %\nrequired = true", "[diff]\nexternal = %", "[gpg]\nprogram = %",
		"[remote \"origin\"]\nurl = ext::% x\npromisor = true\npartialclonefilter = blob:none", "[extensions]\npartialClone = origin",
		"[include]\npath = ../evil", "[alias]\nstatus = !%\nfor-each-ref = !%",
	} {
		config += strings.ReplaceAll(line, "%", trap) + "\n"
	}
	for name, content := range map[string]string{".git/config": config, ".gitattributes": "* filter=x\n", ".git/info/attributes": "* filter=x diff=x\n", "file": "changed\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, hook := range []string{"post-index-change", "reference-transaction"} {
		if err := os.Symlink(trap, filepath.Join(dir, ".git", "hooks", hook)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	// The traps work: plain git springs them.
	_ = exec.CommandContext(t.Context(), "git", "-C", dir, "status").Run()
	if _, err := os.Stat(sprung); err != nil {
		t.Fatal("the traps are none")
	}
	if err := os.Remove(sprung); err != nil {
		t.Fatal(err)
	}
	got := lines(dir, judge(t, dir, Config{}))
	if said, err := os.ReadFile(sprung); err == nil {
		t.Errorf("the audit ran a program of the repository: %s", said)
	}
	if len(got) != 1 || !strings.HasSuffix(got[0], gitDirty) {
		t.Errorf("found %q, want %s alone", got, gitDirty)
	}
}
