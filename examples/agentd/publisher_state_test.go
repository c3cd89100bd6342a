package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// publishing is a repository with two releases, of which the state before the
// second was kept by somebody who can write there.
type publishing struct {
	t                *testing.T
	repo, key, trust string
	home, older      string
}

func newPublishing(t *testing.T) *publishing {
	t.Helper()
	dir := t.TempDir()
	p := &publishing{
		t: t, repo: filepath.Join(dir, "repo"), key: filepath.Join(dir, "keys", "release.key"), trust: filepath.Join(dir, "keys", "release.pub"),
		home: filepath.Join(dir, "home"), older: filepath.Join(dir, "older"),
	}
	agentd(t, "keys", "generate", "--out", filepath.Join(dir, "keys")).ok(t)
	p.build("1.0.0").ok(t)
	if err := os.CopyFS(p.older, os.DirFS(p.repo)); err != nil {
		t.Fatal(err)
	}
	p.publish("yank", "--reason", "it crashes", "1.0.0").ok(t)
	return p
}

// setBack puts the older state into the place of the newer.
func (p *publishing) setBack() {
	p.t.Helper()
	if err := os.RemoveAll(p.repo); err != nil {
		p.t.Fatal(err)
	}
	if err := os.CopyFS(p.repo, os.DirFS(p.older)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *publishing) publish(verb string, more ...string) result {
	p.t.Helper()
	args := append([]string{"release", verb, "--key", p.key, "--repo", p.repo}, more...)
	return command(p.t, []string{"XDG_STATE_HOME=", "HOME=" + p.home}, args...)
}

func (p *publishing) build(version string, more ...string) result {
	p.t.Helper()
	return p.publish("build", append(more, "--plain", "--version", version, binary(p.t, version))...)
}

func TestPublisherRefusesARepositoryThatWasSetBackAndIsToldHowToGoOn(t *testing.T) {
	p := newPublishing(t)
	p.setBack()
	p.build("1.1.0").fails(t, 1, "index 2", "found index 1", "--accept-older-index")
	p.publish("refresh").fails(t, 1, "--accept-older-index")
	p.publish("refresh", "--accept-older-index").ok(t)
	list := agentd(t, "release", "list", "--repo", p.repo, "--trust", p.trust).ok(t)
	if !strings.Contains(list.stdout, "index 3 ") {
		t.Errorf("hosts have seen index 2, the next must be 3:\n%s", list.stdout)
	}
	p.build("1.1.0").ok(t)
	if err := os.RemoveAll(p.repo); err != nil {
		t.Fatal(err)
	}
	anew := p.build("1.2.0").ok(t)
	if says := "index 4 was signed here before and is gone: the repository begins anew at index 5; "; !strings.Contains(anew.stderr, says) {
		t.Errorf("want %q, found\n%s", says, anew.stderr)
	}
	list = agentd(t, "release", "list", "--repo", p.repo, "--trust", p.trust).ok(t)
	if !strings.Contains(list.stdout, "index 5 ") {
		t.Errorf("hosts have seen index 4, the next must be 5:\n%s", list.stdout)
	}
	if again := p.build("1.3.0").ok(t); strings.Contains(again.stderr, "anew") {
		t.Errorf("said again of a repository that is there:\n%s", again.stderr)
	}
}

// A build container has no state, and perhaps no home.
func TestPublisherWithoutAStateDirectoryIsNotHindered(t *testing.T) {
	p := newPublishing(t)
	p.setBack()
	for name, home := range map[string]string{"empty": t.TempDir(), "none": "", "not writable": "/dev/null"} {
		p.home = home
		r := p.publish("refresh").ok(t)
		if told := strings.Contains(r.stderr, "does not remember"); told != (name == "not writable") {
			t.Errorf("%s: told %v\n%s", name, told, r.stderr)
		}
	}
	p.home = ""
	command(t, []string{"XDG_STATE_HOME=state"}, "release", "refresh", "--key", p.key, "--repo", p.repo).fails(t, 2, "XDG_STATE_HOME", "absolute")
}

// Two publishers start at the same time, and each tries the directory.
func TestStateDirectoryIsTriedByManyAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	tried := make(chan error)
	for range 4 {
		go func() {
			var err error
			for range 200 {
				err = errors.Join(err, writable(dir), atomicfile.RemoveTemp(dir))
			}
			tried <- err
		}()
	}
	for range 4 {
		if err := <-tried; err != nil {
			t.Error(err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

// A directory that cannot be written any more still says what was signed.
func TestWhatIsRememberedHoldsWhereItCannotBeWritten(t *testing.T) {
	p := newPublishing(t)
	found, err := filepath.Glob(filepath.Join(p.home, ".local", "state", "agentd", "publisher", "*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%q, %v, want one directory", found, err)
	}
	// Root may write to whatever has no mode for it: what nobody can remove
	// stands for what cannot be made.
	if err := errors.Join(os.MkdirAll(filepath.Join(found[0], probeName, "full"), 0o700), os.Chmod(found[0], 0o500)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(found[0], 0o700) })
	if r := p.publish("refresh").ok(t); !strings.Contains(r.stderr, "does not remember") {
		t.Errorf("said nothing:\n%s", r.stderr)
	}
	p.setBack()
	p.publish("refresh").fails(t, 1, "index 2", "found index 1", "--accept-older-index")
	p.build("1.1.0").fails(t, 1, "index 2", "found index 1", "--accept-older-index")
	p.publish("refresh", "--accept-older-index").ok(t)
}
