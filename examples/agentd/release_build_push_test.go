package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/peertest"
)

// TestBuildSignsWhatCosignVerifies: admission controllers and auditors go by
// cosign, and would refuse the release.
func TestBuildSignsWhatCosignVerifies(t *testing.T) {
	cosign := peertest.Find(t, "cosign", "v3.1.3")
	s := newShelf(t, "1.0.0")
	private, public := cosignKeys(t)
	image := peertest.Registry(t, t.TempDir(), "") + "/agentd"
	build := func(more ...string) {
		s.publish("build", append(more, "--version", "1.1.0", "--platform", "linux/amd64", "--push", "oci://"+image, s.script("1.1.0"))...).ok(t)
	}
	build()
	verify := func() (string, error) {
		cmd := exec.CommandContext(t.Context(), cosign, "verify", "--key", public, "--insecure-ignore-tlog=true", "--allow-insecure-registry", image+":1.1.0")
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "DOCKER_CONFIG="+t.TempDir())
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := verify(); err == nil {
		t.Fatalf("cosign verifies what it has not signed:\n%s", out)
	}
	build("--cosign-key", private)
	if out, err := verify(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// TestBuildPushesWhatItHasPublished: a pipeline of one command would otherwise
// leave agents without the release, or end well though they are.
func TestBuildPushesWhatItHasPublished(t *testing.T) {
	s := newShelf(t, "1.0.0")
	private, _ := cosignKeys(t)
	layout := "oci-layout:" + filepath.Join(s.dir, "layout")
	build := func(more ...string) result {
		return s.publish("build", append(more, "--version", "1.1.0", "--platform", "linux/amd64", s.script("1.1.0"))...)
	}
	build("--cosign-key", private).fails(t, 2, "--push")
	build("--push", s.dir).fails(t, 2, "--push", "oci-layout:DIR")
	build("--push", layout, "--cosign-key", s.trust).fails(t, 1, "cosign key")
	list := func(repo string) string {
		return agentd(t, "release", "list", "--repo", repo, "--trust", s.trust).ok(t).stdout
	}
	if out := list(s.repo); strings.Contains(out, "1.1.0") {
		t.Fatalf("published though it could not be pushed as asked:\n%s", out)
	}

	r := build("--push", layout, "--cosign-key", private, "-o", "json").ok(t)
	var told buildOutcome
	if err := json.Unmarshal([]byte(r.stdout), &told); err != nil || told.Pushed == nil || len(told.Pushed.Releases) != 2 || !told.Pushed.Releases[1].Signed {
		t.Errorf("told %s, %v", r.stdout, err)
	}
	if out := list(layout); !strings.Contains(out, "1.1.0") {
		t.Errorf("pushed:\n%s", out)
	}

	r = build("--push", "oci://127.0.0.1:1/agentd")
	r.fails(t, 1, "released, but not pushed", "127.0.0.1:1")
	if !strings.Contains(r.stdout, "released agentd 1.1.0@sha256:") {
		t.Errorf("the pin of what was published is not told:\n%s", r.stdout)
	}
}
