package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/perennial-go/perennial/examples/agentd/internal/audit"
	"github.com/perennial-go/perennial/internal/peertest"
)

// audited makes a directory with one file.
func audited(t *testing.T, name, content string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAuditEndsWithACodeThatContinuousIntegrationCanUse(t *testing.T) {
	clean, warned := audited(t, "Dockerfile", "FROM scratch\n"), audited(t, "Dockerfile", "FROM a.example.com/a:1.0.0\n")
	if r := agentd(t, "audit", clean).ok(t); r.stdout != "1 file judged: 0 findings, 0 fixed, 0 suppressed.\n" {
		t.Errorf("a clean tree: %q", r.stdout)
	}
	agentd(t, "audit", warned).fails(t, 1, "at or above warning", "1 of 1 finding")
	agentd(t, "audit", "--fail-on", "error", warned).ok(t)
	agentd(t, "audit", "--ignore", "image-digest-missing", warned).ok(t)
	agentd(t, "audit", "--exclude", "Docker*", warned).ok(t)
	agentd(t, "audit").fails(t, 2, "PATH")
	agentd(t, "audit", filepath.Join(clean, "absent")).fails(t, 2, "absent")
	agentd(t, "audit", audited(t, "x.png", "")+"/x.png").fails(t, 2, "x.png", "Dockerfile")
	for name, content := range map[string]string{"x.sh": "#!/bin/zsh\n", "x.yaml": "a: b\n", "x.json": "{}\n"} {
		r := agentd(t, "audit", filepath.Join(audited(t, name, content), name)).ok(t)
		if !strings.Contains(r.stdout, name+": not read: ") {
			t.Errorf("that %s is not judged is not told:\n%s", name, r.stdout)
		}
	}
	agentd(t, "audit", filepath.Join(audited(t, "values.yaml", ""), "values.yaml")).ok(t)
	if r := agentd(t, "audit", audited(t, "x.sh", "#!/usr/bin/fish\n")).ok(t); !strings.Contains(r.stdout, "x.sh: not read") {
		t.Errorf("a script that is passed over is not told: %s", r.stdout)
	}
	agentd(t, "audit", "--ignore", "image", clean).fails(t, 2, `"image"`, "image-invalid")
	agentd(t, "audit", "--exclude", "[", clean).fails(t, 2, `"["`)
	agentd(t, "audit", "--fail-on", "fatal", clean).fails(t, 2, "note, warning or error", "fatal")
	agentd(t, "audit", "-o", "xml", clean).fails(t, 2, "sarif", "xml")
	agentd(t, "audit", "--dry-run", clean).fails(t, 2, "--fix")
	agentd(t, "audit", "--fix", "--registry-timeout", "-1s", clean).fails(t, 2, "--registry-timeout", "-1s")
	if os.Getuid() == 0 {
		return // may read everything
	}
	if err := os.Chmod(filepath.Join(warned, "Dockerfile"), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(warned, "web.Dockerfile"), []byte("FROM a.example.com/a:1.0.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := agentd(t, "audit", warned)
	if r.fails(t, 3, "Dockerfile"); !strings.Contains(r.stdout, "web.Dockerfile:1:6") || !strings.Contains(r.stdout, "/Dockerfile: not read") {
		t.Errorf("what could be read is not told, or what could not: %s", r.stdout)
	}
}

// TestThisRepositoryPassesItsOwnAudit: what we tell others to pin is pinned here.
func TestThisRepositoryPassesItsOwnAudit(t *testing.T) {
	agentd(t, "audit", filepath.Join("..", "..")).ok(t)
	// Its CI files must have been among what was judged, wherever one begins.
	for _, path := range []string{".github", ".github/workflows", ".github/workflows/ci.yml", ".ci", ".ci/run"} {
		r := agentd(t, "audit", filepath.Join("..", "..", path)).ok(t)
		if !strings.Contains(r.stdout, "1 file judged") {
			t.Errorf("%s: %s", path, r.stdout)
		}
	}
}

func TestAuditPrintsWhatOtherProgramsRead(t *testing.T) {
	dir := audited(t, "Dockerfile", "FROM nginx # \x1b[2J\nFROM redis # agentd-audit: ignore image-tag-missing why not\n")
	r := agentd(t, "audit", "-o", "json", "--fail-on", "error", dir)
	var report audit.Report
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.code != 1 {
		t.Fatalf("%v, exit code %d\n%s", err, r.code, r.stdout)
	}
	if len(report.Findings) != 2 || report.Schema != 1 || report.Files != 1 || report.Findings[0].Line != 1 || report.Findings[1].Suppressed != "why not" {
		t.Errorf("report %+v", report)
	}
	var log struct {
		Version string `json:"version"`
		Runs    []struct {
			Results []struct {
				RuleID       string `json:"ruleId"`
				Suppressions []any  `json:"suppressions"`
			} `json:"results"`
		} `json:"runs"`
	}
	r = agentd(t, "audit", "-o", "sarif", dir)
	if err := json.Unmarshal([]byte(r.stdout), &log); err != nil {
		t.Fatal(err)
	}
	if log.Version != "2.1.0" || len(log.Runs) != 1 || len(log.Runs[0].Results) != 2 || len(log.Runs[0].Results[1].Suppressions) != 1 {
		t.Errorf("SARIF %s", r.stdout)
	}
	if r := agentd(t, "audit", audited(t, "compose.yaml", "services: {a: {image: \"x\\e[2J\"}}\n")); strings.Contains(r.stdout, "\x1b") {
		t.Errorf("what a file says reaches the terminal: %q", r.stdout)
	}
}

// TestDiffOfADryRunCanBeApplied by git, which compares each line and the numbers.
func TestDiffOfADryRunCanBeApplied(t *testing.T) {
	numbered := func(from, to int, end string) (text string) {
		for n := from; n < to; n++ {
			text += fmt.Sprintf("# %d%s", n, end)
		}
		return text
	}
	for name, c := range map[string]struct {
		before string
		hunks  []string
	}{
		"far apart":         {numbered(0, 9, "\n") + "FROM a:1\n" + numbered(10, 17, "\n") + "FROM a:1\nFROM a:1\n" + numbered(19, 40, "\n"), []string{"@@ -7,7 +7,7 @@", "@@ -15,8 +15,8 @@"}},
		"near by":           {"FROM a:1\n" + numbered(1, 7, "\n") + "FROM a:1\n", []string{"@@ -1,8 +1,8 @@"}},
		"line ends of DOS":  {numbered(0, 5, "\r\n") + "FROM a:1\r\n" + numbered(6, 9, "\r\n"), []string{"@@ -3,7 +3,7 @@"}},
		"byte order mark":   {"\ufeffFROM a:1\n", []string{"@@ -1,1 +1,1 @@"}},
		"no end of line":    {"x\nFROM a:1", []string{"@@ -1,2 +1,2 @@"}},
		"mark of no change": {"\ufeff# x\nFROM a:1\n# y", []string{"@@ -1,3 +1,3 @@"}},
	} {
		t.Run(name, func(t *testing.T) {
			after := strings.ReplaceAll(c.before, "a:1", "a:1@x")
			dir := audited(t, "Dockerfile", c.before)
			diff := lineDiff("Dockerfile", c.before, after)
			var hunks []string
			for line := range strings.Lines(diff) {
				if strings.HasPrefix(line, "@@") {
					hunks = append(hunks, strings.TrimSpace(line))
				}
			}
			if !slices.Equal(hunks, c.hunks) {
				t.Errorf("hunks %q, want %q", hunks, c.hunks)
			}
			cmd := exec.CommandContext(t.Context(), "git", "apply", "-p0", "-")
			cmd.Dir, cmd.Stdin = dir, strings.NewReader(diff)
			cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s\n%q", err, out, diff)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "Dockerfile")); err != nil || string(got) != after {
				t.Errorf("the file is %q, %v, want %q", got, err, after)
			}
		})
	}
	if diff := lineDiff("a\n+++ b", "x\x1b[2J\n", "y\x1b[2J\n"); strings.Contains(diff, "\x1b") || strings.Contains(diff, "\n+++ b") {
		t.Errorf("what a file is named and says reaches the terminal: %q", diff)
	}
}

// pushImage puts an artifact into a registry and returns its digest.
func pushImage(t *testing.T, address, repository, tag string) string {
	t.Helper()
	repo, err := remote.NewRepository(address + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	d, err := oras.PackManifest(t.Context(), repo, oras.PackManifestVersion1_1, "application/vnd.example", oras.PackManifestOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := oras.Tag(t.Context(), repo, d.Digest.String(), tag); err != nil {
		t.Fatal(err)
	}
	return d.Digest.String()
}

// TestCommandsOfTheAuditPageWork as they are printed, and it has every rule.
func TestCommandsOfTheAuditPageWork(t *testing.T) {
	page, err := os.ReadFile("../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range audit.Rules() {
		if !strings.Contains(string(page), "| `"+rule.ID+"` | "+string(rule.Level)+" |") {
			t.Errorf("the page has not rule %s with level %s", rule.ID, rule.Level)
		}
	}
	address := peertest.Registry(t, t.TempDir(), "")
	digest := pushImage(t, address, "team/web", "1.4.2")
	pushImage(t, address, "team/db", "16")
	dir := t.TempDir()
	bin := filepath.Join(t.TempDir(), "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary(t, "1.0.0"), filepath.Join(bin, "agentd")); err != nil {
		t.Fatal(err)
	}
	script, _, _ := strings.Cut(shellLines(string(page), "mkdir"), "agentd audit --require-tag")
	if strings.Count(script, "agentd audit") < 5 {
		t.Fatalf("too few commands were found:\n%s", script)
	}
	sh := exec.CommandContext(t.Context(), "sh", "-e")
	sh.Dir, sh.Stdin = dir, strings.NewReader(script)
	sh.Env = append(os.Environ(), "REGISTRY="+address, "PATH="+bin+":"+os.Getenv("PATH"), "DOCKER_CONFIG="+t.TempDir())
	var out bytes.Buffer
	sh.Stdout, sh.Stderr = &out, &out
	if err := sh.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{
		"shop/compose.yaml:1:25: warning: image-digest-missing", ": error: image-tag-floating", ": error: pull-policy-stale",
		"shop/deploy.sh:2:1: warning: tool-undeclared", "shop/deploy.sh:2:13: warning: env-undeclared",
		"+services: {web: {image: '" + address + "/team/web:1.4.2@" + digest + "'}", "2 findings, 2 fixed",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("want %q in what they print:\n%s", want, out.String())
		}
	}
	got, err := os.ReadFile(filepath.Join(dir, "shop", "compose.yaml"))
	if err != nil || !strings.Contains(string(got), "web:1.4.2@"+digest) {
		t.Errorf("after the fix the file is %q, %v", got, err)
	}
}
