package release

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/reexec"
)

// remembering is a publisher with a StateDir, and a copy of the repository as
// it was before its last change.
type remembering struct {
	*fixture
	stateDir, older string
}

// newRemembering has signed index 2, which withdraws 1.0.0; the copy has index 1.
func newRemembering(t *testing.T) *remembering {
	t.Helper()
	r := &remembering{fixture: newFixture(t), stateDir: filepath.Join(t.TempDir(), "state"), older: filepath.Join(t.TempDir(), "older")}
	r.mustPublish("1.0.0")
	if err := os.CopyFS(r.older, os.DirFS(r.dir)); err != nil {
		t.Fatal(err)
	}
	if err := r.publisher(false).Yank(t.Context(), "agentd", "1.0.0", "it crashes"); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *remembering) publisher(acceptOlder bool) *Repository {
	r.tb.Helper()
	p, err := NewRepository(RepositoryConfig{
		Dir: r.dir, Key: fixtureKey(r.tb, 1), Validity: fixtureValidity, Now: r.now, PlainOnly: true,
		StateDir: r.stateDir, AcceptOlder: acceptOlder,
	})
	if err != nil {
		r.tb.Fatal(err)
	}
	return p
}

func (r *remembering) mustPublish(version string) {
	r.tb.Helper()
	if _, err := r.publisher(false).Publish(r.tb.Context(), r.release(version)); err != nil {
		r.tb.Fatal(err)
	}
}

func (r *remembering) setBack() {
	r.tb.Helper()
	if err := errors.Join(os.RemoveAll(r.dir), os.CopyFS(r.dir, os.DirFS(r.older))); err != nil {
		r.tb.Fatal(err)
	}
}

func TestAttackRepositorySetBackUnderItsPublisher(t *testing.T) {
	t.Parallel()
	for name, attack := range map[string]func(r *remembering){
		"older index": (*remembering).setBack,
		"extended by a publisher that remembers nothing": func(r *remembering) {
			r.setBack()
			if err := r.repository(1).Refresh(t.Context(), "agentd"); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRemembering(t)
			attack(r)
			before, _ := os.ReadFile(r.path(indexPath))
			p := r.publisher(false)
			_, publishErr := p.Publish(t.Context(), r.release("1.1.0"))
			for what, err := range map[string]error{
				"publish": publishErr,
				"yank":    p.Yank(t.Context(), "agentd", "1.0.0", "x"),
				"refresh": p.Refresh(t.Context(), "agentd"),
			} {
				if !errors.Is(err, ErrReplay) {
					t.Errorf("%s: %v, want %v", what, err, ErrReplay)
				}
			}
			if after, _ := os.ReadFile(r.path(indexPath)); !bytes.Equal(before, after) {
				t.Error("the index was written")
			}
		})
	}
}

// What is meant must be possible, and reach hosts that have seen the newer index.
func TestPublisherThatAcceptsAnOlderIndexReachesHostsThatHaveSeenTheNewer(t *testing.T) {
	t.Parallel()
	r := newRemembering(t)
	host := r.client()
	if _, err := host.Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.setBack()
	if _, err := host.Index(t.Context()); !errors.Is(err, ErrReplay) {
		t.Fatalf("%v, want %v", err, ErrReplay)
	}
	if err := r.publisher(true).Refresh(t.Context(), "agentd"); err != nil {
		t.Fatal(err)
	}
	if x, err := host.Index(t.Context()); err != nil || x.Sequence != 3 {
		t.Errorf("%+v, %v, want index 3", x, err)
	}
}

// A repository that is deleted and built again, as in a trial, stops nobody,
// and offers nothing that was withdrawn.
func TestRepositoryBegunAnewReachesHostsThatHaveSeenTheOneBefore(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(r *remembering) error{
		"no index":      func(r *remembering) error { return os.Remove(r.path(indexPath)) },
		"no repository": func(r *remembering) error { return os.RemoveAll(r.dir) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRemembering(t)
			host := r.client()
			if _, err := host.Index(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := remove(r); err != nil {
				t.Fatal(err)
			}
			r.mustPublish("1.1.0")
			x, err := host.Index(t.Context())
			if err != nil || x.Sequence != 3 || len(x.Releases) != 1 {
				t.Errorf("%+v, %v, want index 3 with 1.1.0 alone", x, err)
			}
		})
	}
}

func TestPublishersThatTakeTurnsAreNotHindered(t *testing.T) {
	t.Parallel()
	r := newRemembering(t)
	r.publish("1.1.0", "1.2.0") // another's, who remembers nothing
	r.mustPublish("1.3.0")
	if err := r.publisher(false).Refresh(t.Context(), "agentd"); err != nil {
		t.Error(err)
	}
}

func TestPublisherKilledBeforeItRemembersGoesOn(t *testing.T) {
	r := newRemembering(t)
	t.Setenv(envPublishState, r.stateDir)
	cmd, output := publisherProcess(t, r.dir, "publish.remember=kill", "1.1.0")
	if err := cmd.Wait(); !reexec.Killed(err) {
		t.Fatalf("the publisher was not killed: %v\n%s", err, output)
	}
	r.write(filepath.Join(r.stateDir, ".tmp-published.json-1"), []byte("{"))
	r.mustPublish("1.2.0")
	if x := r.index(); x.Sequence != 4 {
		t.Errorf("index %d, want that of the killed one (3) and the next", x.Sequence)
	}
	entries, err := os.ReadDir(r.stateDir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v, want %s alone", entries, err, publishedFile)
	}
	if info, err := os.Stat(r.stateDir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v, want mode 0700", info.Mode(), err)
	}
}

func TestWhatAPublisherRemembersIsReadAndWrittenAsEver(t *testing.T) {
	t.Parallel()
	want := published{Schema: 1, Name: "agentd", Sequence: 4, Index: sha256Hex(golden(t, "index-1.json"))}
	for _, name := range []string{"published-1.json", "published-1-later.json"} {
		if got, err := parsePublished(golden(t, name)); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
		}
	}
	if got, err := encodeDocument(want); err != nil || !bytes.Equal(got, golden(t, "published-1.json")) {
		t.Errorf("now written as\n%s, %v", got, err)
	}
}

// Taking a damaged file for none would let whoever damages it have an older
// index extended.
func TestWhatAPublisherRemembersIsNeverIgnored(t *testing.T) {
	t.Parallel()
	index := sha256Hex([]byte("index"))
	for name, content := range map[string]string{
		"empty":            "",
		"cut short":        `{"schema": 1, "name": "agentd"`,
		"newer schema":     `{"schema": 2, "name": "agentd", "sequence": 1, "index": "` + index + `"}`,
		"member twice":     `{"schema": 1, "name": "agentd", "sequence": 9, "sequence": 1, "index": "` + index + `"}`,
		"no sequence":      `{"schema": 1, "name": "agentd", "index": "` + index + `"}`,
		"no digest":        `{"schema": 1, "name": "agentd", "sequence": 1, "index": ""}`,
		"name is a path":   `{"schema": 1, "name": "../x", "sequence": 1, "index": "` + index + `"}`,
		"another program":  `{"schema": 1, "name": "other", "sequence": 1, "index": "` + index + `"}`,
		"larger than read": string(bytes.Repeat([]byte(" "), maxPublishedSize+1)),
	} {
		r := newRemembering(t)
		r.write(filepath.Join(r.stateDir, publishedFile), []byte(content))
		if err := r.publisher(false).Refresh(t.Context(), "agentd"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The repository is changed all the same, and whoever reads the error must know.
func TestPublisherThatCannotRememberSaysThatTheIndexIsPublished(t *testing.T) {
	t.Parallel()
	r := newRemembering(t)
	r.stateDir = filepath.Join(t.TempDir(), "state")
	if err := os.Symlink("nowhere", r.stateDir); err != nil {
		t.Fatal(err)
	}
	err := r.publisher(false).Refresh(t.Context(), "agentd")
	if err == nil || !strings.Contains(err.Error(), "index 3 is published") {
		t.Errorf("%v, want that index 3 is published", err)
	}
}

func TestPublisherThatCannotWriteItsStateIsHeldToIt(t *testing.T) {
	t.Parallel()
	r := newRemembering(t)
	path := filepath.Join(r.stateDir, publishedFile)
	before := r.read(path)
	p := r.publisher(false)
	p.cfg.StateReadOnly = true
	if err := p.Refresh(t.Context(), "agentd"); err != nil {
		t.Fatal(err)
	}
	if err := p.Yank(t.Context(), "agentd", "1.0.0", "it crashes"); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.read(path), before) {
		t.Error("it was written")
	}
	r.setBack()
	if err := p.Refresh(t.Context(), "agentd"); !errors.Is(err, ErrReplay) {
		t.Errorf("%v, want %v", err, ErrReplay)
	}
}

// A repository that is gone was perhaps not meant to be, and a withdrawal is
// gone with it.
func TestPublisherSaysThatARepositoryBeginsAnew(t *testing.T) {
	t.Parallel()
	r := newRemembering(t)
	publish := func(version string) (said []string) {
		rel := r.release(version)
		rel.Progress = func(line string) { said = append(said, line) }
		if _, err := r.publisher(false).Publish(t.Context(), rel); err != nil {
			t.Fatal(err)
		}
		return said
	}
	r.remove(r.dir)
	if said := publish("1.1.0"); len(said) != 1 || !strings.HasPrefix(said[0], "index 2 was signed here before and is gone: the repository begins anew at index 3") {
		t.Errorf("said %q", said)
	}
	if said := publish("1.2.0"); len(said) != 0 {
		t.Errorf("said %q of a repository that is there", said)
	}
}
