package main

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/upgrade/release"
)

// A publisher asks for deltas with one flag and sees what they come to.
func TestReleaseBuildMakesDeltasAndSaysSo(t *testing.T) {
	dir := t.TempDir()
	keys, repo := filepath.Join(dir, "keys"), filepath.Join(dir, "repo")
	agentd(t, "keys", "generate", "--out", keys).ok(t)
	data := make([]byte, 400_000)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(data[:300_000])
	build := func(version string, flags ...string) (told string) {
		t.Helper()
		data[0]++
		path := filepath.Join(dir, version)
		if err := os.WriteFile(path, data, 0o755); err != nil {
			t.Fatal(err)
		}
		args := append([]string{"release", "build", "--key", filepath.Join(keys, "release.key"), "--repo", repo, "--version", version, "--platform", "linux/amd64"}, flags...)
		r := agentd(t, append(args, path)...)
		r.ok(t)
		return r.stderr
	}
	if told := build("1.0.0", "--plain"); told != "" {
		t.Errorf("--plain says %q", told)
	}
	if told := build("1.1.0"); !strings.Contains(told, "linux/amd64: zstd has ") {
		t.Errorf("without flags it says %q", told)
	}
	told := build("1.2.0", "--delta-from", "2")
	for _, want := range []string{"zstd has ", "zstd delta from 1.0.0 has ", "zstd delta from 1.1.0 has ", "bsdiff delta from 1.0.0 has ", "bsdiff delta from 1.1.0 has "} {
		if !strings.Contains(told, want) {
			t.Errorf("it does not say %q:\n%s", want, told)
		}
	}
	for version, want := range map[string][2]int{"1.0.0": {0, 0}, "1.1.0": {1, 0}, "1.2.0": {1, 4}} {
		p := published(t, repo, version).Platforms[0]
		if len(p.Encodings) != want[0] || len(p.Deltas) != want[1] {
			t.Errorf("%s: %d encodings and %d deltas, want %v", version, len(p.Encodings), len(p.Deltas), want)
		}
	}
	agentd(t, "release", "build", "--key", filepath.Join(keys, "release.key"), "--repo", repo, "--version", "1.3.0", "--platform", "linux/amd64",
		"--delta-from", "17", filepath.Join(dir, "1.2.0")).fails(t, 2, "17", "0 to 16")
}

// published reads the manifest of a release.
func published(t *testing.T, repo, version string) *release.Manifest {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(repo, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var x release.Index
	if err := json.Unmarshal(raw, &x); err != nil {
		t.Fatal(err)
	}
	e, err := x.Find(version)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = os.ReadFile(filepath.Join(repo, "manifests", "sha256", e.Manifest+".json")); err != nil {
		t.Fatal(err)
	}
	m, err := release.ParseManifest(raw)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
