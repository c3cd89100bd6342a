package main

import (
	"path/filepath"
	"testing"
)

// Wrong usage gives 2 in every command, and its sentence names what was wrong.
func TestWrongUsageOfReleasesGivesTwo(t *testing.T) {
	s := newShelf(t, "1.0.0")
	build := func(more ...string) []string {
		return append([]string{"release", "build", "--key", filepath.Join(s.dir, "keys", "release.key"), "--repo", s.repo, "--version", "1.1.0", "--platform", "linux/amd64", s.script("1.1.0")}, more...)
	}
	read := func(command string, more ...string) []string {
		return append([]string{"release", command, "--repo", s.repo, "--trust", s.trust}, more...)
	}
	roots := []string{"release", "list", "--repo", s.repo, "--trust-roots", s.trust, "--trust-threshold"}
	run := []string{"run", "--id", "a", "--etcd", "http://127.0.0.1:1", "--state-dir", filepath.Join(s.dir, "state"), "--repo", s.repo, "--trust", s.trust}
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"show of a moving tag":       {read("show", "latest"), []string{"VERSION", "latest"}},
		"pull of half a version":     {read("pull", "--cache", s.dir, "1.0"), []string{"VERSION", `"1.0"`}},
		"resolve of half a digest":   {read("resolve", "1.0.0@sha256:ab"), []string{"VERSION", "1.0.0@sha256:ab"}},
		"range that is none":         {read("show", "^foo"), []string{"VERSION", "^foo"}},
		"too many deltas":            {build("--delta-from", "99"), []string{"99", "0 to 16"}},
		"requirement that is none":   {build("--requires", "foo"), []string{"foo", ">=1.0.0"}},
		"name with a path, built":    {build("--name", "../x"), []string{"../x"}},
		"name with a path, read":     {read("list", "--name", "../x"), []string{"--name", "../x"}},
		"name with a path, yanked":   {[]string{"release", "yank", "--key", "k", "--repo", s.repo, "--reason", "x", "--name", "../x", "1.0.0"}, []string{"--name", "../x"}},
		"name with a path, keyring":  {[]string{"keys", "create", "--keyring", filepath.Join(s.dir, "k"), "--add", s.trust, "--name", "../x"}, []string{"--name", "../x"}},
		"policy that is none":        {read("list", "--pull", "Sometimes"), []string{"--pull", "Sometimes", "Always, IfNotPresent or Never"}},
		"policy of run that is none": {append(run, "--pull", "Sometimes"), []string{"--pull", "Sometimes", "Always, IfNotPresent or Never"}},
		"more roots than there are":  {append(roots, "4"), []string{"--trust-threshold", "at most 1", "4"}},
		"fewer roots than none":      {append(roots, "-1"), []string{"--trust-threshold", "-1"}},
		"no validity":                {build("--validity", "-3s"), []string{"--validity", "-3s"}},
		"authorities over http":      {[]string{"release", "list", "--repo", "http://127.0.0.1:1", "--trust", s.trust, "--repo-ca", s.trust}, []string{"--repo-ca", "https://"}},
		"certificate without a key":  {[]string{"release", "list", "--repo", "https://127.0.0.1:1", "--trust", s.trust, "--repo-cert", s.trust}, []string{"--repo-cert", "--repo-key"}},
		"two files to trust":         {read("list", "--trust", "other.pub"), []string{"--trust", s.trust, "one file"}},
	} {
		t.Run(name, func(t *testing.T) {
			agentd(t, c.args...).fails(t, 2, c.says...)
		})
	}
}
