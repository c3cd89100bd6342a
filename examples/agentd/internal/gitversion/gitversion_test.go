package gitversion_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/perennial-go/perennial/examples/agentd/internal/gitversion"
)

// tree is a real git repository.
type tree struct {
	testing.TB
	dir string
}

func newTree(tb testing.TB) tree {
	tb.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		tb.Skip("git is not installed")
	}
	t := tree{tb, tb.TempDir()}
	t.git("init", "-q", "-b", "main")
	return t
}

func (t tree) git(args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = t.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
		"GIT_AUTHOR_DATE=2029-05-06T07:08:09Z", "GIT_COMMITTER_DATE=2029-05-06T07:08:09Z")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (t tree) write(name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(t.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// commit adds one commit and the tags at it.
func (t tree) commit(tags ...string) {
	t.Helper()
	t.git("commit", "-q", "--allow-empty", "-m", "change "+strings.Join(tags, " "))
	for _, tag := range tags {
		t.git("tag", tag)
	}
}

func (t tree) version(allowDirty bool) (gitversion.Version, error) {
	return gitversion.Repository{Dir: t.dir, AllowDirty: allowDirty}.Version(t.Context())
}

func TestVersionSaysWhichCommitItIsOf(t *testing.T) {
	for name, c := range map[string]struct {
		history []string // the tags of each commit, separated by spaces
		want    string   // HASH stands for the commit
	}{
		"at a tag":                         {[]string{"v1.4.2"}, "1.4.2"},
		"at a pre-release":                 {[]string{"v1.4.2", "v1.5.0-rc.1"}, "1.5.0-rc.1"},
		"between tags":                     {[]string{"v1.4.2", "", ""}, "1.4.3-dev.2+gHASH"},
		"after a pre-release":              {[]string{"v1.4.2", "v1.5.0-rc.1", "", "", ""}, "1.5.0-rc.1.dev.3+gHASH"},
		"two tags at one commit":           {[]string{"v1.4.2 v1.10.0 v1.9.0"}, "1.10.0"},
		"release and its candidate":        {[]string{"v1.5.0-rc.1 v1.5.0"}, "1.5.0"},
		"tag of build metadata":            {[]string{"v1.4.2+build.5"}, "1.4.2+build.5"},
		"after a tag of build metadata":    {[]string{"v1.4.2+build.5", ""}, "1.4.3-dev.1+gHASH"},
		"tags that name no exact version":  {[]string{"v1.4.2", "v2 latest v1.5 version-3.0.0 3.0.0 v01.9.0"}, "1.4.3-dev.1+gHASH"},
		"an older tag set later":           {[]string{"v2.0.0", "v1.9.9", ""}, "2.0.1-dev.2+gHASH"},
		"an older release tagged right at": {[]string{"v2.0.0", "v1.9.9"}, "1.9.9"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newTree(t)
			for _, tags := range c.history {
				r.commit(strings.Fields(tags)...)
			}
			head := r.git("rev-parse", "HEAD")
			v, err := r.version(false)
			if want := strings.ReplaceAll(c.want, "HASH", head[:12]); err != nil || v.Version != want {
				t.Errorf("version %s (%v), want %s", v.Version, err, want)
			}
			if v.Revision != head || !v.Time.Equal(time.Date(2029, 5, 6, 7, 8, 9, 0, time.UTC)) || v.Dirty {
				t.Errorf("%+v, want commit %s", v, head)
			}
		})
	}
}

// TestVersionsGrowWithTheHistory: else a host would take the next build for a
// downgrade.
func TestVersionsGrowWithTheHistory(t *testing.T) {
	r := newTree(t)
	var last *semver.Version
	for _, tags := range []string{"v1.4.2", "", "", "", "", "", "", "", "", "", "", "v1.5.0-alpha", "", "v1.5.0-rc.1", "", "", "v1.5.0-rc.2", "", "v1.5.0", ""} {
		r.commit(strings.Fields(tags)...)
		v, err := r.version(false)
		if err != nil {
			t.Fatal(err)
		}
		next := semver.MustParse(v.Version)
		if last != nil && !next.GreaterThan(last) {
			t.Errorf("%s follows %s and is not newer", next, last)
		}
		last = next
	}
}

func TestTagsOfAnotherBranchCountForNothing(t *testing.T) {
	r := newTree(t)
	r.commit("v1.4.2")
	r.git("checkout", "-q", "-b", "next")
	r.commit("v2.0.0")
	r.git("checkout", "-q", "main")
	r.commit()
	if v, err := r.version(false); err != nil || !strings.HasPrefix(v.Version, "1.4.3-dev.1+g") {
		t.Errorf("version %s (%v)", v.Version, err)
	}
}

func TestDirtyTreeIsRefusedUnlessAskedAndThenMarked(t *testing.T) {
	for name, dirty := range map[string]func(tree){
		"changed file":  func(r tree) { r.write("file", "changed") },
		"new file":      func(r tree) { r.write("new.go", "package main") },
		"staged change": func(r tree) { r.write("file", "changed"); r.git("add", "file") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newTree(t)
			r.write("file", "text")
			r.write(".gitignore", "ignored\n")
			r.git("add", ".")
			r.commit("v1.4.2")
			r.write("ignored", "is no change")
			if v, err := r.version(false); err != nil || v.Version != "1.4.2" {
				t.Fatalf("clean tree: %s, %v", v.Version, err)
			}
			dirty(r)
			if v, err := r.version(false); !errors.Is(err, gitversion.ErrDirty) {
				t.Errorf("dirty tree: %+v, %v; want ErrDirty", v, err)
			}
			head := r.git("rev-parse", "HEAD")
			v, err := r.version(true)
			if want := "1.4.3-dev.0+g" + head[:12] + ".dirty"; err != nil || v.Version != want || !v.Dirty {
				t.Errorf("allowed: %+v, %v; want %s", v, err, want)
			}
			r.git("stash", "-q", "-u")
			r.commit()
			r.git("stash", "pop", "-q")
			if v, err := r.version(true); err != nil || !strings.HasPrefix(v.Version, "1.4.3-dev.1+g") || !strings.HasSuffix(v.Version, ".dirty") {
				t.Errorf("allowed after the tag: %+v, %v", v, err)
			}
		})
	}
}

func TestWithoutAVersionTheSentenceSaysWhatToDo(t *testing.T) {
	untagged := newTree(t)
	untagged.commit("v2", "nightly")
	empty := newTree(t)
	full := newTree(t)
	full.commit("v1.0.0")
	full.commit()
	full.commit()
	shallow := tree{t, filepath.Join(t.TempDir(), "clone")}
	full.git("clone", "-q", "--depth=1", "file://"+full.dir, shallow.dir)
	for name, c := range map[string]struct {
		dir  string
		want error
		says string
	}{
		"no tags":           {untagged.dir, gitversion.ErrNoTag, "git tag v0.1.0"},
		"no commit":         {empty.dir, nil, "no commit yet"},
		"no repository":     {t.TempDir(), nil, "give --version"},
		"no directory":      {filepath.Join(t.TempDir(), "absent"), nil, "give --version"},
		"history cut short": {shallow.dir, nil, "git fetch --unshallow --tags"},
	} {
		v, err := gitversion.Repository{Dir: c.dir}.Version(t.Context())
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %+v, %v; want an error that says %q", name, v, err, c.says)
		}
	}
	full.git("tag", "v1.1.0")
	full.git("clone", "-q", "--depth=1", "file://"+full.dir, shallow.dir+"-tagged")
	if v, err := (gitversion.Repository{Dir: shallow.dir + "-tagged"}).Version(t.Context()); err != nil || v.Version != "1.1.0" {
		t.Errorf("shallow clone of a tag: %+v, %v", v, err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := (gitversion.Repository{Dir: full.dir}).Version(t.Context()); err == nil || !strings.Contains(err.Error(), "git is not installed") {
		t.Errorf("without git: %v", err)
	}
}
