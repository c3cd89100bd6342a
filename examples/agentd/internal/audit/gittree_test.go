package audit

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// inGit runs git in dir.
func inGit(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
}

// gitTree makes a repository of one commit at tag v1.2.3.
func gitTree(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	dir := write(t, map[string]string{"file": "x\n", ".gitignore": "ignored\n", "sub/file": "x\n"})
	inGit(t, dir, "init", "-q")
	inGit(t, dir, "add", ".")
	inGit(t, dir, "commit", "-qm", "x")
	inGit(t, dir, "tag", "v1.2.3")
	return dir
}

func TestOnlyACleanTreeAtTheTagOfOneVersionCanBeReleased(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, dir string) (audited string)
		want   []string
	}{
		{"at the tag", func(_ *testing.T, dir string) string { return dir }, nil},
		{"at an annotated tag that is packed", func(t *testing.T, dir string) string {
			inGit(t, dir, "tag", "-d", "v1.2.3")
			inGit(t, dir, "tag", "-am", "x", "2.0.0")
			inGit(t, dir, "pack-refs", "--all")
			inGit(t, dir, "gc", "-q")
			return dir
		}, nil},
		{"at a tag that moves", func(t *testing.T, dir string) string {
			inGit(t, dir, "tag", "-d", "v1.2.3")
			inGit(t, dir, "tag", "v1")
			inGit(t, dir, "tag", "stable")
			return dir
		}, []string{gitNotAtTag}},
		{"at the tags of two versions", func(t *testing.T, dir string) string {
			inGit(t, dir, "tag", "v1.2.4")
			return dir
		}, []string{gitNotAtTag}},
		{"a commit later", func(t *testing.T, dir string) string {
			inGit(t, dir, "commit", "-qm", "y", "--allow-empty")
			return dir
		}, []string{gitNotAtTag}},
		{"detached at the tag", func(t *testing.T, dir string) string {
			inGit(t, dir, "commit", "-qm", "y", "--allow-empty")
			inGit(t, dir, "checkout", "-q", "v1.2.3")
			return dir
		}, nil},
		{"changed", func(t *testing.T, dir string) string {
			if err := os.WriteFile(filepath.Join(dir, "file"), []byte("y\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			return dir
		}, []string{gitDirty}},
		{"changed elsewhere", func(t *testing.T, dir string) string {
			if err := os.WriteFile(filepath.Join(dir, "file"), []byte("y\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			return filepath.Join(dir, "sub")
		}, nil},
		{"with a new file", func(t *testing.T, dir string) string {
			if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return dir
		}, []string{gitDirty}},
		{"with a new file beside the one that is audited", func(t *testing.T, dir string) string {
			for name, content := range map[string]string{"Dockerfile": "FROM scratch\n", "new": ""} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			inGit(t, dir, "add", "Dockerfile")
			inGit(t, dir, "commit", "-qm", "y")
			return filepath.Join(dir, "Dockerfile")
		}, []string{gitDirty, gitNotAtTag}},
		{"with a new file that is ignored", func(t *testing.T, dir string) string {
			if err := os.WriteFile(filepath.Join(dir, "ignored"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return dir
		}, nil},
		{"another working tree", func(t *testing.T, dir string) string {
			other := filepath.Join(t.TempDir(), "other")
			inGit(t, dir, "worktree", "add", "-q", "--detach", other)
			inGit(t, other, "commit", "-qm", "y", "--allow-empty")
			return other
		}, []string{gitNotAtTag}},
		{"no repository", func(t *testing.T, _ string) string { return t.TempDir() }, []string{gitNotAtTag}},
		{"without a commit", func(t *testing.T, _ string) string {
			dir := t.TempDir()
			inGit(t, dir, "init", "-q")
			return dir
		}, []string{fileUnread}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			report := judge(t, tt.change(t, gitTree(t)), Config{RequireTag: true})
			var got []string
			for _, f := range report.Findings {
				got = append(got, f.Rule)
				if f.Level != Error {
					t.Errorf("%s is a %s although the tag is required", f.Rule, f.Level)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("found %q, want %q: %v", got, tt.want, report.Findings)
			}
		})
	}
}

// TestAChangeInTheSecondOfTheIndexIsSeen: of the same size, it would pass for what is
// committed.
func TestAChangeInTheSecondOfTheIndexIsSeen(t *testing.T) {
	t.Parallel()
	dir := gitTree(t)
	then := time.Now().Add(-time.Hour)
	file, index := filepath.Join(dir, "file"), filepath.Join(dir, ".git", "index")
	at := func(name string) {
		t.Helper()
		if err := os.Chtimes(name, then, then); err != nil {
			t.Fatal(err)
		}
	}
	at(file)
	inGit(t, dir, "update-index", "--refresh")
	if err := os.WriteFile(file, []byte("y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	at(file)
	at(index)
	if got := lines(dir, judge(t, dir, Config{})); !strings.Contains(strings.Join(got, " "), gitDirty) {
		t.Errorf("found %q", got)
	}
}

func TestTheRepositoryIsLeftAsItWas(t *testing.T) {
	dir := gitTree(t)
	index := filepath.Join(dir, ".git", "index")
	before, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := lines(dir, judge(t, dir, Config{})); !strings.Contains(strings.Join(got, " "), gitDirty) {
		t.Fatalf("found %q", got)
	}
	after, err := os.ReadFile(index)
	if err != nil || string(after) != string(before) {
		t.Errorf("the index was changed: %v", err)
	}
}
