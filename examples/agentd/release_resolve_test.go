package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/upgrade/release"
)

// shelf is a repository of small executables that are not of Go.
type shelf struct {
	t                testing.TB
	dir, repo, trust string
}

func newShelf(t testing.TB, versions ...string) *shelf {
	t.Helper()
	dir := t.TempDir()
	s := &shelf{t, dir, filepath.Join(dir, "repo"), filepath.Join(dir, "keys", "release.pub")}
	agentd(t, "keys", "generate", "--out", filepath.Join(dir, "keys")).ok(t)
	for _, v := range versions {
		s.publish("build", "--version", v, "--platform", runtime.GOOS+"/"+runtime.GOARCH, s.script(v)).ok(t)
	}
	return s
}

// script writes an executable of that version.
func (s *shelf) script(version string) (path string) {
	s.t.Helper()
	path = filepath.Join(s.dir, "agentd-"+version)
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho "+version+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// publish runs a release command that writes.
func (s *shelf) publish(command string, more ...string) result {
	s.t.Helper()
	return agentd(s.t, append([]string{"release", command, "--key", filepath.Join(s.dir, "keys", "release.key"), "--repo", s.repo}, more...)...)
}

// ask runs a release command that reads.
func (s *shelf) ask(command string, more ...string) result {
	s.t.Helper()
	return agentd(s.t, append([]string{"release", command, "--repo", s.repo, "--trust", s.trust}, more...)...)
}

func TestRangeIsResolvedOnceIntoThePinThatEveryCommandTakes(t *testing.T) {
	s := newShelf(t, "1.0.0", "1.1.0", "1.2.0-rc.1", "2.0.0")
	pin := strings.TrimSpace(s.ask("resolve", "^1.0.0").ok(t).stdout)
	if p, err := release.ParsePin(pin); err != nil || p.Version != "1.1.0" {
		t.Fatalf("resolve prints %q: %v", pin, err)
	}
	for _, same := range []string{"1.1.0", pin} {
		if got := s.ask("resolve", same).ok(t).stdout; got != pin+"\n" {
			t.Errorf("resolve %s prints %q, want %s", same, got, pin)
		}
	}
	var answer struct {
		Name, Asked, Reference string
		Pin                    release.Pin
	}
	r := s.ask("resolve", "--prerelease", "^1.0.0", "-o", "json").ok(t)
	if err := json.Unmarshal([]byte(r.stdout), &answer); err != nil || answer.Name != "agentd" || answer.Asked != "^1.0.0" || answer.Pin.Version != "1.2.0-rc.1" || answer.Reference != answer.Pin.String() {
		t.Errorf("as JSON %+v, %v", answer, err)
	}
	cache := filepath.Join(s.dir, "cache")
	for name, args := range map[string][]string{
		"show":    {"show", "^1.0.0"},
		"pull":    {"pull", "--cache", cache, "~1.1.0"},
		"diff":    {"diff", "1.0.0", ">=1.0.0, <2"},
		"by pin":  {"diff", pin, "1.0.0"},
		"by JSON": {"show", "^1.0.0", "-o", "json"},
	} {
		r := s.ask(args[0], args[1:]...).ok(t)
		if !strings.Contains(r.stdout, pin) && !strings.Contains(r.stdout, strings.TrimPrefix(pin, "1.1.0@")) {
			t.Errorf("%s does not show %s:\n%s", name, pin, r.stdout)
		}
		if told := strings.Contains(r.stderr, "resolved ") && strings.Contains(r.stderr, " to "+pin); told != (name != "by pin") {
			t.Errorf("%s says on standard error: %q", name, r.stderr)
		}
	}
	s.ask("resolve", "^3.0.0").fails(t, 1, "^3.0.0", "the newest are")
	s.ask("resolve", "latest").fails(t, 2, "latest", "tag or branch")
	s.ask("show", "^3.0.0").fails(t, 1, "^3.0.0")
	s.publish("yank", "--reason", "x", "^1.0.0").fails(t, 2, "^1.0.0", "release resolve")
	agentd(t, "rollback", "--state-dir", "x", "~1.1.0").fails(t, 2, "~1.1.0", "release resolve")
}

func TestFileWhoseNameLooksLikeARangeIsNoRelease(t *testing.T) {
	for name, want := range map[string]bool{
		"1.0.0": true, "^1.0.0": true, ">=1, <2": true, "1.0.0@sha256:" + strings.Repeat("a", 64): true,
		"./1.0.0": false, "agentd~": false, "./agentd-1.0.0~": false, "dist/agentd=x": false, "latest": false,
	} {
		if got := isRelease(name); got != want {
			t.Errorf("isRelease(%q) = %v", name, got)
		}
	}
}
