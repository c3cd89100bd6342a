package audit

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestFixPinsActionsToTheCommitsOfARealRepository(t *testing.T) {
	work := gitTree(t)
	inGit(t, work, "tag", "-am", "x", "v4")
	inGit(t, work, "branch", "release/v5")
	inGit(t, work, "commit", "-qm", "y", "--allow-empty")
	repo, err := findRepository(work)
	if err != nil {
		t.Fatal(err)
	}
	first := strings.TrimSpace(readFile(t, filepath.Join(repo.dir, "refs", "tags", "v1.2.3")))
	served := t.TempDir()
	inGit(t, work, "clone", "-q", "--bare", ".", filepath.Join(served, "o", "r"))
	inGit(t, filepath.Join(served, "o", "r"), "update-server-info")
	server := httptest.NewServer(http.FileServer(http.Dir(served)))
	t.Cleanup(server.Close)
	g, err := NewGitServer(GitServerConfig{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	before := "jobs:\r\n  a:\r\n    steps:\r\n    - uses: o/r@v4\r\n    - uses: \"o/r/sub@v1.2.3\"\r\n    - {uses: 'o/r@release/v5'}\r\n    - uses: o/r@v4 # stays\r\n    - uses: o/r@none\r\n    - uses: no/such@v1\r\n" +
		"    - {uses: o/r@v1.2.3, name: x}\r\n    - {uses: &x o/r@v1.2.3, # old\r\n       name: x}\r\n    - uses: o/r@v4 # v4 is old\r\n" +
		"    - {uses: o/r@v4, name: x\r\n       y}\r\n    - {uses: o/r@v4, name: 'x # '}\r\n"
	want := strings.NewReplacer("r@v4\r", "r@"+first+" # v4\r", "sub@v1.2.3\"", "sub@"+first+"\" # v1.2.3", "release/v5'}", first+"'} # release/v5", "v4 # stays", first+" # v4 # stays",
		"r@v1.2.3, name: x}", "r@"+first+", name: x} # v1.2.3", "r@v1.2.3, # old", "r@"+first+", # v1.2.3 # old", "r@v4 # v4", "r@"+first+" # v4").Replace(before)
	dir := write(t, map[string]string{".github/workflows/x.yml": before})
	report := judge(t, dir, Config{})
	if err := report.Resolve(t.Context(), nil, g, nil); err != nil {
		t.Fatal(err)
	}
	changes, err := report.Changes()
	if err != nil || len(changes) != 1 {
		t.Fatalf("%d changes, %v", len(changes), err)
	}
	if err := changes[0].Apply(); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, filepath.Join(dir, ".github", "workflows", "x.yml")); got != want {
		t.Errorf("the file is\n%q\nwant\n%q", got, want)
	}
	open := 0
	for _, f := range report.Findings {
		if f.Open() {
			open++
			if f.Unfixed == "" {
				t.Errorf("it is not told why line %d was not fixed", f.Line)
			}
		}
	}
	if open != 4 {
		t.Errorf("%d findings stand, want those of what does not exist, and without room for a comment", open)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestHostileGitServersAndNamesAreRefused(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch {
		case strings.HasPrefix(r.URL.Path, "/hangs/"):
			<-r.Context().Done()
		case strings.HasPrefix(r.URL.Path, "/moves/"):
			http.Redirect(w, r, strings.Replace(r.URL.String(), "/moves/", "/honest/", 1), http.StatusFound)
		case strings.HasPrefix(r.URL.Path, "/honest/"):
			_, _ = w.Write([]byte(strings.Repeat("0a", 20) + "\trefs/tags/v1\n"))
		default:
			_, _ = w.Write([]byte("evil\nuses: x\trefs/tags/v1\n"))
		}
	}))
	t.Cleanup(server.Close)
	patience := func(timeout time.Duration) *GitServer {
		g, err := NewGitServer(GitServerConfig{URL: server.URL, Timeout: timeout})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	g, hasty := patience(0), patience(300*time.Millisecond)
	if commit, err := (question{action: "hangs/r", revision: "v1"}).answer(t.Context(), nil, hasty); err == nil {
		t.Errorf("who hangs answers %q", commit)
	}
	for _, repository := range []string{"moves/r", "lies/r"} {
		if commit, err := (question{action: repository, revision: "v1"}).answer(t.Context(), nil, g); err == nil {
			t.Errorf("%s answers %q", repository, commit)
		}
	}
	if _, err := (question{action: "honest/r", revision: "v1"}).answer(t.Context(), nil, g); err != nil {
		t.Fatal(err)
	}
	reached := asked.Load()
	for _, q := range [][2]string{{"-o/r", "v1"}, {"o/../r", "v1"}, {"o/r", "--upload-pack=x"}, {"o/r", "a/../b"}, {"o/r", "v1\nx"}, {"ext::sh", "v1"}, {"o", "v1"}} {
		if _, err := g.Commit(t.Context(), q[0], q[1]); err == nil || asked.Load() != reached {
			t.Errorf("%q at %q is asked for: %v", q[0], q[1], err)
		}
	}
	for _, u := range []string{"ext::sh -c x", "file:///", "https://user:secret@x", "ssh://x", "https://"} {
		if _, err := NewGitServer(GitServerConfig{URL: u}); err == nil {
			t.Errorf("git server %q is taken", u)
		}
	}
	images := answers(func() (string, error) { return someDigest + "\n  command: evil", nil })
	if digest, err := (question{image: reference{host: "a.example.com", repository: "a", tag: "1.0.0"}}).answer(t.Context(), images, nil); err == nil {
		t.Errorf("%q would be written into a file", digest)
	}
	lies := liar("0123456789abcdef\n  run: evil")
	if commit, err := (question{action: "o/r", revision: "v1"}).answer(t.Context(), nil, lies); err == nil {
		t.Errorf("%q would be written into a file", commit)
	}
}

// liar is Actions that answers what it is told to.
type liar string

func (l liar) Commit(context.Context, string, string) (string, error) { return string(l), nil }
