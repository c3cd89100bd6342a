package oci

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perennial-go/perennial/upgrade/release"
)

// What the tag leads to may be gone: it is no reason to take the registry back,
// and none that it can never be mended.
func TestWhatTheTagLeadsToIsMissedAndRepaired(t *testing.T) {
	t.Parallel()
	f, dir, old := pushedTwice(t)
	to := Config{Location: schemeLayout + dir}
	src := source(t, to)
	raw, err := src.back.manifest(t.Context(), Tag)
	if err != nil {
		t.Fatal(err)
	}
	_, files, err := parseRoot(raw)
	if err != nil {
		t.Fatal(err)
	}
	now, err := src.snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]ocispec.Descriptor{"files": files, "index": now.files[indexPath]} {
		if err := os.Remove(blobFile(dir, hexOf(d))); err != nil {
			t.Fatal(err)
		}
		_, err := Push(t.Context(), PushConfig{Dir: old, Target: to})
		says(t, err, hexOf(d), "--repair")
		if pushed := f.push(PushConfig{Target: to, Repair: true}); pushed.Sequence != 2 {
			t.Errorf("%s: index %d is there, want 2", name, pushed.Sequence)
		}
		f.good(t, src)
	}
}

// A repair replaces what is damaged, not what another has put under the tag, nor
// what a later version of this package writes.
func TestRepairLeavesWhatIsWholeAndNoRepository(t *testing.T) {
	t.Parallel()
	for name, forgery := range map[string]struct {
		files func(*ocispec.Manifest)
		root  func(*ocispec.Index)
		says  string
	}{
		"other root":  {nil, func(x *ocispec.Index) { x.Manifests[0].ArtifactType = "application/vnd.example.other" }, "it is whole"},
		"later files": {func(m *ocispec.Manifest) { m.ArtifactType = "application/vnd.dev.perennial.files.v2" }, nil, "files.v2"},
	} {
		f, dir := pushedLayout(t)
		forge(t, dir, forgery.files, forgery.root)
		l, err := newLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		before, err := l.manifest(t.Context(), Tag)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Push(t.Context(), PushConfig{Dir: f.dir, Target: Config{Location: schemeLayout + dir}, Repair: true})
		says(t, err, forgery.says)
		if after, err := l.manifest(t.Context(), Tag); err != nil || string(after) != string(before) {
			t.Errorf("%s: the tag was moved, %v", name, err)
		}
	}
}

func TestDamageThatReleasesShareIsReadAndToldOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	shared := content("shared")
	f.publishBinary("agentd", "1.0.0", shared)
	f.publishBinary("agentd", "1.1.0", shared)
	var reads atomic.Int32
	to := Config{Location: proxied(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/blobs/"+digestOf(shared)) {
			return false
		}
		reads.Add(1)
		_, _ = w.Write(make([]byte, len(shared)))
		return true
	})}
	f.push(PushConfig{Target: to})
	_, err := Push(t.Context(), PushConfig{Dir: f.dir, Target: to, Repair: true})
	if !errors.Is(err, release.ErrDigest) {
		t.Fatalf("%v, want %v", err, release.ErrDigest)
	}
	if n := strings.Count(err.Error(), errStays.Error()); n != 1 || reads.Load() != 2 {
		t.Errorf("told %d times, read %d times, want once, and before and after it was sent:\n%v", n, reads.Load(), err)
	}
}
