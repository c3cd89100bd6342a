package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

func TestEveryCommandThatReadsARepositoryTakesTheSameFlags(t *testing.T) {
	var read []string
	commands(newRoot(), func(cmd *cobra.Command) {
		if cmd.Flags().Lookup("trust") == nil || cmd.Name() == "push" {
			return // push reads a directory
		}
		read = append(read, cmd.Name())
		wanted := []string{"repo", "repo-ca", "repo-cert", "repo-key", "repo-auth-file", "cache", "pull", "cache-bytes"}
		if cmd.Name() == "verify" {
			wanted = wanted[:5] // a cache would hide damage
		}
		for _, flag := range wanted {
			if cmd.Flags().Lookup(flag) == nil {
				t.Errorf("%s has --trust and no --%s", cmd.CommandPath(), flag)
			}
		}
	})
	if len(read) < 4 {
		t.Errorf("only %q read a repository", read)
	}
}

// newRepository is a repository of 1.1.0, built with these flags, and the key to
// trust.
func newRepository(t *testing.T, flags ...string) (repo, trust string) {
	t.Helper()
	dir := t.TempDir()
	keys, repo := filepath.Join(dir, "keys"), filepath.Join(dir, "repo")
	agentd(t, "keys", "generate", "--out", keys).ok(t)
	build := append([]string{"release", "build", "--key", filepath.Join(keys, "release.key"), "--repo", repo, "--version", "1.1.0"}, flags...)
	agentd(t, append(build, binary(t, "1.1.0"))...).ok(t)
	return repo, filepath.Join(keys, "release.pub")
}

func TestPulledReleaseNeedsNoRepository(t *testing.T) {
	t.Parallel()
	repo, trust := newRepository(t)
	access := []string{"--repo", repo, "--trust", trust, "--cache", filepath.Join(t.TempDir(), "cache")}
	list := append([]string{"release", "list", "--pull", "Never"}, access...)
	agentd(t, list...).fails(t, 1, "agentd release pull --repo "+repo)
	if r := agentd(t, append([]string{"release", "pull", "1.1.0"}, access...)...).ok(t); !strings.Contains(r.stdout, "1.1.0@sha256:") {
		t.Errorf("pull does not say what it pulled:\n%s", r.stdout)
	}
	if err := os.RemoveAll(repo); err != nil {
		t.Fatal(err)
	}
	if r := agentd(t, list...).ok(t); !strings.Contains(r.stdout, "1.1.0") {
		t.Errorf("from the cache:\n%s", r.stdout)
	}
	agentd(t, append([]string{"release", "pull", "--pull", "Never", "1.1.0"}, access...)...).ok(t) // the binary is there as well
	agentd(t, append([]string{"release", "pull", "9.9.9"}, access...)...).fails(t, 1, "not found")
}

func TestRepositoryFlagsThatDoNothingAreRefused(t *testing.T) {
	t.Parallel()
	repo, trust := newRepository(t, "--plain")
	list := []string{"release", "list", "--repo", repo, "--trust", trust}
	agentd(t, append(list, "--pull", "Never")...).fails(t, 2, "--cache")
	agentd(t, append(list, "--pull", "Sometimes", "--cache", "x")...).fails(t, 2, "IfNotPresent")
	agentd(t, append(list, "--repo-auth-file", trust)...).fails(t, 2, "https://")
}

func TestPullWorksInTheCacheAndLeavesNothingElse(t *testing.T) {
	repo, trust := newRepository(t, "--plain")
	dir := t.TempDir()
	cache := filepath.Join(dir, "cache")
	stale, other := filepath.Join(cache, pulling+"killed"), filepath.Join(cache, pulling+"running")
	for _, path := range []string{stale, other} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	then := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(stale, then, then); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", filepath.Join(dir, "none"))
	agentd(t, "release", "pull", "--repo", repo, "--trust", trust, "--cache", cache, "1.1.0").ok(t)
	if left, err := filepath.Glob(filepath.Join(cache, ".tmp-*")); err != nil || len(left) != 1 || left[0] != other {
		t.Errorf("left in the cache: %q, %v; want %s alone", left, err, other)
	}
}

func TestVerifyLooksAtTheRepositoryAndNotAtTheCache(t *testing.T) {
	t.Parallel()
	repo, trust := newRepository(t, "--plain")
	access := []string{"--repo", repo, "--trust", trust, "--cache", filepath.Join(t.TempDir(), "cache")}
	agentd(t, append([]string{"release", "pull", "1.1.0"}, access...)...).ok(t)
	verify := append([]string{"release", "verify"}, access[:4]...)
	agentd(t, verify...).ok(t)
	agentd(t, append(verify, access[4:]...)...).fails(t, 2, "--cache", "agentd release verify --help")
	agentd(t, append(verify, "--pull", "Never")...).fails(t, 2, "--pull")
	if r := command(t, []string{"AGENTD_CACHE=" + access[5], "AGENTD_PULL=Never"}, verify...); r.code != 0 {
		t.Errorf("with a cache in the environment, which is for others: %+v", r)
	}
	blobs, err := filepath.Glob(filepath.Join(repo, "blobs", "sha256", "*"))
	if err != nil || len(blobs) == 0 {
		t.Fatalf("%q, %v", blobs, err)
	}
	for _, path := range blobs {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	agentd(t, verify...).fails(t, 1, "without damage")
}
