package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/upgrade/release/oci"
)

// A publisher with one key who changes it could otherwise push nothing any more.
func TestBuildPushesAfterAChangeOfKeys(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	private, _ := cosignKeys(t)
	layout := "oci-layout:" + filepath.Join(v.dir, "layout")
	v.build("release", "1.0.0").ok(t)
	v.build("next", "1.1.0", "--extend", v.file("release.pub")).ok(t)
	r := v.build("next", "1.2.0", "--push", layout).ok(t)
	if !strings.Contains(r.stderr, "1.0.0 is pushed, but hosts") || !strings.Contains(r.stderr, v.id("release")) || strings.Contains(r.stderr, "1.1.0 is pushed") {
		t.Errorf("told:\n%s", r.stderr)
	}
	agentd(t, "release", "show", "--repo", layout, "--trust", v.file("next.pub"), "1.2.0").ok(t)
	agentd(t, "release", "show", "--repo", layout, "--trust", v.file("next.pub"), "1.0.0").fails(t, 1, "not trusted", v.id("release"))

	v.build("next", "1.2.0", "--push", layout, "--cosign-key", private).fails(t, 1, "released, but not pushed", "signed by key "+v.id("release"), "--extend", "yank 1.0.0")
	v.build("next", "1.2.0", "--push", layout, "--cosign-key", private, "--extend", v.file("release.pub")).ok(t)

	v.write("both.pub", append(v.read("release.pub"), v.read("next.pub")...))
	push := []string{"release", "push", "--repo", v.repo, "--cosign-key", private, layout}
	agentd(t, append(push, "--trust", v.file("next.pub"))...).fails(t, 1, "both keys in the file of --trust")
	agentd(t, append(push, "--trust", v.file("both.pub"))...).ok(t)
}

// So could one who began with a key, and has roots now that do not list it.
func TestPushOfWhatTheKeyringDoesNotListIsTold(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	private, _ := cosignKeys(t)
	v.build("release", "1.0.0").ok(t)
	v.build("next", "1.1.0", "--extend", v.file("release.pub")).ok(t)
	v.keys("create", "--add", v.file("next.pub")).ok(t)
	v.sign()
	push := []string{"release", "push", "--repo", v.repo, "--trust-roots", v.file("roots.pub"), "--trust-threshold", "2", "-o", "json", "oci-layout:" + filepath.Join(v.dir, "layout")}
	r := agentd(t, push...).ok(t)
	var pushed oci.Pushed
	if err := json.Unmarshal([]byte(r.stdout), &pushed); err != nil || len(pushed.Releases) != 2 {
		t.Fatalf("%v in %s", err, r.stdout)
	}
	if got := pushed.Releases[0].Refused; !strings.Contains(got, v.id("release")) || !strings.Contains(got, v.id("next")) || pushed.Releases[1].Refused != "" {
		t.Errorf("refused are %+v", pushed.Releases)
	}
	agentd(t, append(push, "--cosign-key", private)...).fails(t, 1, v.id("release"), "have the roots add that key", "yank 1.0.0")
	// A revoked key is told alike.
	v.keys("revoke", "--reason", "stolen", v.id("release")).ok(t)
	v.sign()
	if r := agentd(t, push...).ok(t); !strings.Contains(r.stderr, "1.0.0 is pushed, but hosts") || !strings.Contains(r.stderr, "key revoked") {
		t.Errorf("told:\n%s", r.stderr)
	}
}
