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

func TestKeysAreWrittenOnceAndTheSecretOneIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	agentd(t, "keys", "generate", "--out", dir).ok(t)
	before, err := os.ReadFile(filepath.Join(dir, "release.key"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "release.key"))
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("release.key has mode %v (%v), want 0600", info.Mode(), err)
	}
	agentd(t, "keys", "generate", "--out", dir).fails(t, 1, "release.key", "never replaced")
	if after, err := os.ReadFile(filepath.Join(dir, "release.key")); err != nil || string(after) != string(before) {
		t.Errorf("the key was replaced (%v)", err)
	}
}

func TestReleaseBuildRefusesAndChangesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys, repo := filepath.Join(dir, "keys"), filepath.Join(dir, "repo")
	agentd(t, "keys", "generate", "--out", keys).ok(t)
	key, good := filepath.Join(keys, "release.key"), binary(t, "1.0.0")
	agentd(t, "release", "build", "--plain", "--key", key, "--repo", repo, "--version", "1.0.0", good).ok(t)
	exposed := filepath.Join(dir, "exposed.key")
	text, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exposed, text, 0o644); err != nil {
		t.Fatal(err)
	}
	agentd(t, "keys", "generate", "--out", filepath.Join(dir, "other")).ok(t)
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	before := tree(t, repo)
	for name, c := range map[string]struct {
		key, version, binary string
		says                 []string
	}{
		"key that is not there":       {filepath.Join(dir, "none.key"), "1.1.0", binary(t, "1.1.0"), []string{"none.key"}},
		"key that others can read":    {exposed, "1.1.0", binary(t, "1.1.0"), []string{"0644", "chmod 600"}},
		"public key":                  {filepath.Join(keys, "release.pub"), "1.1.0", binary(t, "1.1.0"), []string{"release.pub holds no private key, but a public one", filepath.Join(keys, "release.key")}},
		"key of another publisher":    {filepath.Join(dir, "other", "release.key"), "1.1.0", binary(t, "1.1.0"), []string{"not trusted"}},
		"binary of another version":   {key, "1.1.0", good, []string{"1.0.0", "1.1.0", "-ldflags"}},
		"version with other content":  {key, "1.0.0", "", []string{"1.0.0"}},
		"binary that is not there":    {key, "1.1.0", filepath.Join(dir, "none"), []string{filepath.Join(dir, "none") + " does not exist: give the path of an executable"}},
		"binary without build info":   {key, "1.1.0", script, []string{"--platform"}},
		"directory in place of a key": {keys, "1.1.0", binary(t, "1.1.0"), []string{keys}},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"release", "build", "--plain", "--key", c.key, "--repo", repo, "--version", c.version}
			if c.binary == "" {
				args, c.binary = append(args, "--platform", "linux/amd64"), script
			}
			agentd(t, append(args, c.binary)...).fails(t, 1, c.says...)
			if after := referenced(t, keys, repo); after != "1.0.0" {
				t.Errorf("the index lists %s, want 1.0.0 alone", after)
			}
		})
	}
	if after := tree(t, repo); after["index.json"] != before["index.json"] {
		t.Error("the index was written again")
	}
}

// tree reads a directory into memory.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, relErr := filepath.Rel(dir, path)
		if relErr != nil {
			return relErr
		}
		files[filepath.ToSlash(rel)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// referenced lists the versions of a repository.
func referenced(t *testing.T, keys, repo string) string {
	t.Helper()
	r := agentd(t, "release", "list", "--repo", repo, "--trust", filepath.Join(keys, "release.pub"), "-o", "json").ok(t)
	var index release.Index
	if err := json.Unmarshal([]byte(r.stdout), &index); err != nil {
		t.Fatalf("%v in %s", err, r.stdout)
	}
	var versions []string
	for _, e := range index.Releases {
		versions = append(versions, e.Version)
	}
	return strings.Join(versions, " ")
}

func TestReleasesAreListedWithdrawnAndRefreshed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys, repo := filepath.Join(dir, "keys"), filepath.Join(dir, "repo")
	agentd(t, "keys", "generate", "--out", keys).ok(t)
	key, pub := filepath.Join(keys, "release.key"), filepath.Join(keys, "release.pub")
	for _, v := range []string{"1.0.0", "1.1.0"} {
		agentd(t, "release", "build", "--plain", "--key", key, "--repo", repo, "--version", v, "--requires", ">=1.0.0", binary(t, v)).ok(t)
	}
	if got := referenced(t, keys, repo); got != "1.0.0 1.1.0" {
		t.Errorf("the index lists %s, want both", got)
	}
	agentd(t, "release", "yank", "--key", key, "--repo", repo, "--reason", "loses records", "1.1.0").ok(t)
	if r := agentd(t, "release", "list", "--repo", repo, "--trust", pub).ok(t); !strings.Contains(r.stdout, "loses records") {
		t.Errorf("the list does not show the withdrawal:\n%s", r.stdout)
	}
	agentd(t, "release", "yank", "--key", key, "--repo", repo, "--reason", "x", "9.9.9").fails(t, 1, "9.9.9")
	agentd(t, "release", "refresh", "--key", key, "--repo", repo).ok(t)
	if r := agentd(t, "release", "list", "--repo", repo, "--trust", pub).ok(t); !strings.Contains(r.stdout, "index 4 of agentd") {
		t.Errorf("the index was not signed anew:\n%s", r.stdout)
	}
}

func TestStampedVersionIsReadFromLinkerFlags(t *testing.T) {
	for flags, want := range map[string]string{
		"-X main.version=1.2.3":                "1.2.3",
		"-s -w -X main.version=1.2.3 -X a.b=c": "1.2.3",
		"\"-X main.version=1.2.3\" -s":         "1.2.3",
		"-X 'main.version=1.2.3'":              "1.2.3",
		"-s -w":                                "",
		"-X main.version=":                     "",
	} {
		if got, ok := stampedVersion(flags); got != want || ok != (want != "") {
			t.Errorf("stampedVersion(%q) = %q, %v; want %q", flags, got, ok, want)
		}
	}
}
