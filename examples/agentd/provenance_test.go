package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

// sources is a git repository with a program, as its author has it.
type sources struct {
	t   *testing.T
	dir string
}

func newSources(t *testing.T) sources {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	s := sources{t, t.TempDir()}
	s.write("go.mod", "module example.com/demo\n\ngo 1.26\n")
	s.write("main.go", "package main\n\nfunc main() {}\n")
	s.run("git", "init", "-q")
	return s
}

func (s sources) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s sources) run(name string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
		"GIT_AUTHOR_DATE=2029-05-06T07:08:09Z", "GIT_COMMITTER_DATE=2029-05-06T07:08:09Z")
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit commits all, tags it if tag is not empty, and builds the program.
func (s sources) commit(tag string) (binary string) {
	s.t.Helper()
	s.run("git", "add", ".")
	s.run("git", "commit", "-q", "--allow-empty", "-m", "change "+tag)
	if tag != "" {
		s.run("git", "tag", tag)
	}
	return s.build()
}

func (s sources) build() string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "demo")
	s.run("go", "build", "-buildvcs=true", "-trimpath", "-o", path, ".")
	return path
}

// TestReleaseIsNamedDatedAndDescribedByItsCommit: nobody types what can be
// read, and so nobody can type it wrong.
func TestReleaseIsNamedDatedAndDescribedByItsCommit(t *testing.T) {
	s := newSources(t)
	dir := t.TempDir()
	keys, repo := filepath.Join(dir, "keys"), filepath.Join(dir, "repo")
	agentd(t, "keys", "generate", "--out", keys).ok(t)
	key, pub := filepath.Join(keys, "release.key"), filepath.Join(keys, "release.pub")
	build := func(args ...string) result {
		return agentd(t, append([]string{"release", "build", "--key", key, "--repo", repo, "--source", s.dir}, args...)...)
	}
	untagged := s.commit("")
	build(untagged).fails(t, 1, "no tag names a version", "git tag v0.1.0", "--version")
	tagged := s.commit("v1.4.2")
	build(untagged).fails(t, 1, "1.4.2", "was built from", s.run("git", "rev-parse", "--short=12", "HEAD~1"))
	first := build(tagged).ok(t)
	if !strings.HasPrefix(first.stdout, "released agentd 1.4.2@sha256:") {
		t.Errorf("at the tag: %s", first.stdout)
	}
	between := s.commit("")
	head := s.run("git", "rev-parse", "HEAD")
	if r := build("-o", "json", between).ok(t); !strings.Contains(r.stdout, `"version": "1.4.3-dev.1+g`+head[:12]+`"`) {
		t.Errorf("after the tag: %s", r.stdout)
	}
	s.write("main.go", "package main\n\nfunc main() { println(1) }\n")
	dirty := s.build()
	build(dirty).fails(t, 1, "uncommitted changes", "main.go", "(--allow-dirty)")
	s.run("git", "stash", "-q")
	build(dirty).fails(t, 1, "found that the tree had other changes")
	s.run("git", "stash", "pop", "-q")
	s.commit("")
	s.write("new.go", "package main\n")
	dirty = s.build()
	if r := build("--allow-dirty", dirty).ok(t); !strings.Contains(r.stdout, " 1.4.3-dev.2+g") || !strings.Contains(r.stdout, ".dirty@sha256:") {
		t.Errorf("dirty tree, allowed: %s", r.stdout)
	}

	r := agentd(t, "release", "show", "--repo", repo, "--trust", pub, "1.4.2").ok(t)
	for _, want := range []string{
		"agentd 1.4.2@sha256:", "Commit: " + s.run("git", "rev-parse", "v1.4.2") + ".", "Built: 2029-05-06T07:08:09Z.",
		`Signed by: key `, `"agentd 1.4.2"`, "Requires: nothing.", "Built of: example.com/demo with go1.", "Running on: not asked",
	} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("show does not say %q:\n%s", want, r.stdout)
		}
	}
	// The same executable makes the same manifest in another repository.
	again := agentd(t, "release", "build", "--key", key, "--repo", filepath.Join(dir, "other"), "--version", "1.4.2", tagged).ok(t)
	if again.stdout != first.stdout {
		t.Errorf("published elsewhere as %s, at first as %s", again.stdout, first.stdout)
	}
	epoch := command(t, []string{"SOURCE_DATE_EPOCH=1767225600"}, "release", "build", "--key", key, "--repo", filepath.Join(dir, "third"), "--version", "1.4.2", tagged).ok(t)
	if epoch.stdout == first.stdout {
		t.Error("SOURCE_DATE_EPOCH changed nothing")
	}
	if r := agentd(t, "release", "show", "--repo", filepath.Join(dir, "third"), "--trust", pub, "1.4.2").ok(t); !strings.Contains(r.stdout, "Built: 2026-01-01T00:00:00Z.") {
		t.Errorf("SOURCE_DATE_EPOCH is not the date:\n%s", r.stdout)
	}
	command(t, []string{"SOURCE_DATE_EPOCH=yesterday"}, "release", "build", "--key", key, "--repo", repo, "--version", "9.0.0", tagged).fails(t, 2, "SOURCE_DATE_EPOCH", "yesterday")
}

func TestRepositoryIsVerifiedComparedAndWithdrawnFrom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys, repo := filepath.Join(dir, "keys"), filepath.Join(dir, "repo")
	agentd(t, "keys", "generate", "--out", keys).ok(t)
	key, pub := filepath.Join(keys, "release.key"), filepath.Join(keys, "release.pub")
	agentd(t, "release", "build", "--key", key, "--repo", repo, "--version", "1.0.0", binary(t, "1.0.0")).ok(t)
	current := []string{"release", "build", "--plain", "--key", key, "--repo", repo, "--version", "1.1.0", "--requires", ">=1.0.0", binary(t, "1.1.0")}
	agentd(t, current...).ok(t)
	read := []string{"--repo", repo, "--trust", pub}
	with := func(command string, args ...string) result {
		return agentd(t, append(append([]string{"release", command}, read...), args...)...)
	}
	if r := with("verify").ok(t); !strings.Contains(r.stdout, "2 releases, 6 files") {
		t.Errorf("verify: %s", r.stdout)
	}
	if r := with("list").ok(t); !strings.Contains(r.stdout, "MiB") || !strings.Contains(r.stdout, "expires ") || !strings.Contains(r.stdout, "in 90 days") {
		t.Errorf("list: %s", r.stdout)
	}
	r := with("diff", "1.0.0", "1.1.0").ok(t)
	for _, want := range []string{"from 1.0.0@sha256:", "requires: nothing -> the running version >=1.0.0", "go: go1.", "unchanged", "modules: 0 removed, 0 added, 0 changed"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("diff does not say %q:\n%s", want, r.stdout)
		}
	}
	if r := agentd(t, "release", "diff", "-o", "json", binary(t, "1.0.0"), binary(t, "1.1.0")).ok(t); !strings.Contains(r.stdout, `"build": {}`) {
		t.Errorf("diff of two files: %s", r.stdout)
	}
	agentd(t, "release", "diff", "1.0.0", "1.1.0").fails(t, 2, "--repo", "./1.0.0")
	agentd(t, "release", "diff", "absent", binary(t, "1.0.0")).fails(t, 1, "absent")
	with("show", "latest").fails(t, 2, "latest", "such as 1.2.0")
	with("show", "9.9.9").fails(t, 1, "9.9.9", "nearest: 1.0.0, 1.1.0")

	key = filepath.Join(keys, "release.key")
	yank := []string{"release", "yank", "--key", key, "--repo", repo}
	agentd(t, append(yank, "1.1.0")...).fails(t, 2, "--reason")
	agentd(t, append(yank, "--reason", "x", "1.x")...).fails(t, 2, "1.x", "partial version")
	if r := agentd(t, append(yank, "--reason", "loses records", "-o", "json", "1.1.0")...).ok(t); !strings.Contains(r.stdout, `"yanked": "loses records"`) {
		t.Errorf("yank: %s", r.stdout)
	}
	if r := with("show", "1.1.0").ok(t); !strings.Contains(r.stdout, "WITHDRAWN: loses records") {
		t.Errorf("show: %s", r.stdout)
	}
	agentd(t, append(yank, "--undo", "1.1.0")...).ok(t)
	if r := with("list").ok(t); strings.Contains(r.stdout, "loses records") {
		t.Errorf("offered again, list says\n%s", r.stdout)
	}

	each(t, filepath.Join(repo, "blobs", "sha256", "*"), func(path string) { spoil(t, path, "main.version=1.1.0", "main.version=6.6.6") })
	with("verify").fails(t, 1, "want a repository without damage", "found 1")
	v := with("verify", "-o", "json")
	var found release.Verification
	if err := json.Unmarshal([]byte(v.stdout), &found); err != nil || v.code != 1 || len(found.Damage) != 1 || found.Damage[0].Release != "1.1.0" || !strings.Contains(found.Damage[0].Mend, "release build") {
		t.Errorf("verify -o json: exit code %d, %v\n%s", v.code, err, v.stdout)
	}
	agentd(t, current...).ok(t)
	with("verify").ok(t)
}

func TestPluginAndHostThatDisagreeOnTheirProtocolAreTold(t *testing.T) {
	host, plugin := newSources(t), newSources(t)
	program := func(s sources, version string) string {
		for _, dir := range []string{"v1", "v2"} {
			if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o755); err != nil {
				t.Fatal(err)
			}
			s.write(dir+"/p.go", "package p\n\nconst P = 1\n")
		}
		s.write("v1/go.mod", "module example.com/p\n\ngo 1.26\n")
		s.write("v2/go.mod", "module example.com/p/v2\n\ngo 1.26\n")
		path, dir := "example.com/p", "v1"
		if strings.HasPrefix(version, "v2") {
			path, dir = "example.com/p/v2", "v2"
		}
		s.write("go.mod", "module example.com/demo\n\ngo 1.26\n\nrequire "+path+" "+version+"\n\nreplace "+path+" => ./"+dir+"\n")
		s.write("main.go", "package main\n\nimport p \""+path+"\"\n\nfunc main() { println(p.P) }\n")
		return s.commit("")
	}
	old, other := program(host, "v1.0.0"), program(plugin, "v2.0.0")
	// What was replaced by a directory cannot be compared, and says so.
	r := agentd(t, "release", "conflicts", "--module", "example.com/p", old, other)
	if r.fails(t, 3, "example.com/p", "can be compared"); !strings.Contains(r.stdout, "unknown: ") {
		t.Errorf("conflicts: %s", r.stdout)
	}
	if r := agentd(t, "release", "conflicts", old, other).ok(t); !strings.Contains(r.stdout, "no protocol module in common") {
		t.Errorf("conflicts: %s", r.stdout)
	}
	if r := agentd(t, "release", "diff", old, other).ok(t); !strings.Contains(r.stdout, "- example.com/p v1.0.0") || !strings.Contains(r.stdout, "+ example.com/p/v2 v2.0.0") {
		t.Errorf("diff: %s", r.stdout)
	}
	script := writeFile(t, "#!/bin/sh\n")
	agentd(t, "release", "conflicts", old, script).fails(t, 3, "what "+script+" was built of")
	if err := incompatible(release.Conflicts(
		&release.Build{Modules: []release.Module{{Path: "google.golang.org/grpc", Version: "v1.70.0"}}},
		&release.Build{Modules: []release.Module{{Path: "google.golang.org/grpc", Version: "v2.0.0"}}}, nil), []string{"HOST", "PLUGIN"}); err == nil || !strings.Contains(err.Error(), "v1.70.0 in HOST and v2.0.0 in PLUGIN") {
		t.Errorf("verdict: %v", err)
	}
}

// TestOperatorLearnsWhatRunsWhereItComesFromAndWhoAllowedIt follows one
// release from a range to the agents that run it, and its withdrawal.
func TestOperatorLearnsWhatRunsWhereItComesFromAndWhoAllowedIt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("1.0.0", "1.1.0")
	s.start("--check-every", "100ms")
	s.upgrade("^2.0.0").fails(t, 1, "^2.0.0", "the newest are 1.0.0, 1.1.0")
	s.upgrade("1.1.0@sha256:"+strings.Repeat("0", 64)).fails(t, 1, "digest differs", "the signed index lists 1.1.0@sha256:")
	s.upgrade("1.1.0", "--expect", "latest").fails(t, 2, "latest", "such as 1.2.0")
	r := s.upgrade("^1.0.0", "--by", "ops@example").ok(t)
	_, pin, _ := strings.Cut(r.stdout, "resolved ^1.0.0 to ")
	pin, _, _ = strings.Cut(pin, "\n")
	if p, err := release.ParsePin(pin); err != nil || p.Version != "1.1.0" {
		t.Fatalf("the pin is not shown: %v\n%s", err, r.stdout)
	}
	const rule = "newer than 1.0.0, same major version"
	check := func(what, text string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not say %q:\n%s", what, want, text)
			}
		}
	}
	remote := []string{"status", "--etcd", s.etcd.URL(), "--agent", "a1"}
	waittest.Until(t, "the registry tells of the new release", func() bool {
		return strings.Contains(agentd(t, remote...).stdout, "allowed by: "+rule)
	})
	check("status of the registry", agentd(t, remote...).ok(t).stdout,
		"Agent a1 runs "+pin, "signed by key ", "(agentd 1.1.0)", "asked for by ops@example", "as ^1.0.0")
	check("status of the directory", agentd(t, "status", "--state-dir", s.state).ok(t).stdout,
		pin, "signed by key ", "(agentd 1.1.0)", "asked for by ops@example", "allowed by: "+rule, "as ^1.0.0", "installed by other means, so not signed")
	show := []string{"release", "show", "--repo", s.repo, "--trust", s.trust, "--etcd", s.etcd.URL()}
	check("show", agentd(t, append(show, "1.1.0")...).ok(t).stdout, "Running on: 1 agents.", "a1 on ", "asked for by ops@example; allowed by: "+rule)
	check("show of what ran", agentd(t, append(show, "1.0.0")...).ok(t).stdout, "Running on: 0 agents.")
	var st upgrade.Status
	if err := json.Unmarshal([]byte(agentd(t, append(remote, "-o", "json")...).ok(t).stdout), &st); err != nil || st.Provenance == nil || st.Asked != "^1.0.0" {
		t.Errorf("status as JSON: %+v, %v", st, err)
	}
	if st.Yanked != "" {
		t.Errorf("withdrawn before it was: %q", st.Yanked)
	}
	agentd(t, "release", "yank", "--key", s.key, "--repo", s.repo, "--reason", "loses records", "1.1.0").ok(t)
	waittest.Until(t, "the fleet shows the alert", func() bool {
		r := agentd(t, "fleet", "--etcd", s.etcd.URL())
		return strings.Contains(r.stdout, "alert release_yanked") && strings.Contains(r.stdout, "runs a withdrawn release: loses records")
	})
	check("status", agentd(t, remote...).ok(t).stdout, "WITHDRAWN by its publisher: loses records.")
	if i := s.mustInfo(); i.Version != "1.1.0" {
		t.Errorf("a withdrawal changed what runs: %+v", i)
	}
	// The way back is a pin as well.
	check("retained", agentd(t, "status", "--state-dir", s.state).ok(t).stdout, "A rollback can go to: 1.0.0.")
	agentd(t, "rollback", "--etcd", s.etcd.URL(), "--agent", "a1").ok(t)
	back := []string{"rollback", "--etcd", s.etcd.URL(), "--agent", "a1", pin}
	agentd(t, back...).fails(t, 1, "withdrawn by its publisher (loses records)")
	agentd(t, "release", "yank", "--undo", "--key", s.key, "--repo", s.repo, "1.1.0").ok(t)
	waittest.Until(t, "the agent hears that it is offered again", func() bool {
		return !strings.Contains(agentd(t, remote...).ok(t).stdout, "WITHDRAWN")
	})
	agentd(t, back...).ok(t)
	if i := s.mustInfo(); i.Version != "1.1.0" {
		t.Errorf("the retained pin was not gone back to: %+v", i)
	}
}
