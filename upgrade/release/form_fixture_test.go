package release

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/perennial-go/perennial/upgrade/release/bsdiff"
)

// forms is a repository whose releases have every smaller form, and a host.
type forms struct {
	*fixture
	src *recordingSource
	dst string
}

func newForms(tb testing.TB) *forms {
	tb.Helper()
	f := newFixture(tb)
	return &forms{fixture: f, src: &recordingSource{Source: f.source()}, dst: filepath.Join(tb.TempDir(), "agent")}
}

// host is another host of the same repository, for a subtest.
func (f *forms) host(tb testing.TB) *forms {
	tb.Helper()
	other := newForms(tb)
	other.dir = f.dir
	other.src = &recordingSource{Source: other.source()}
	return other
}

func (f *forms) repository() *Repository {
	f.tb.Helper()
	r, err := NewRepository(RepositoryConfig{Dir: f.dir, Key: fixtureKey(f.tb, 1), Validity: fixtureValidity, Now: f.now, Differs: []Differ{bsdiff.Differ{}}})
	if err != nil {
		f.tb.Fatal(err)
	}
	return r
}

// program is the binary of a release: half of it compresses, and one release
// differs from the next in a few insertions, and in many places by the same
// number, as the addresses behind an insertion do.
func program(n int) []byte { return programOf(200_000, n) }

// largeProgram is one of several chunks of a download.
func largeProgram(n int) []byte { return programOf(800_000, n) }

func programOf(size, n int) []byte {
	noise := make([]byte, size/2)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(noise)
	data := slices.Concat(noise[:size/4], bytes.Repeat([]byte("some code "), size/20), noise[size/4:])
	for i := range n {
		data = slices.Insert(data, 1000+size/16*i, []byte("release inserts this ")...)
	}
	for i := 0; i < size*3/8; i += 64 {
		data[i] += byte(n)
	}
	return data
}

// publish adds release 1.n.0 with deltas from the two before it.
func (f *forms) publish(n int) *Manifest {
	f.tb.Helper()
	m, err := f.add(n, program(n))
	if err != nil {
		f.tb.Fatal(err)
	}
	return m
}

func version(n int) string { return "1." + string(rune('0'+n)) + ".0" }

func (f *forms) add(n int, data []byte) (*Manifest, error) {
	f.tb.Helper()
	path := filepath.Join(f.tb.TempDir(), "agentd")
	f.write(path, data)
	rel := Release{Name: "agentd", Version: version(n), Binaries: []Binary{{OS: "linux", Arch: "amd64", Path: path}}, DeltaFrom: 2, Created: issued}
	if _, err := f.repository().Publish(context.Background(), rel); err != nil {
		return nil, err
	}
	return f.manifest(version(n)), nil
}

// old is what a host has that runs release n.
func (f *forms) old(n int) map[string]string {
	f.tb.Helper()
	path := filepath.Join(f.tb.TempDir(), "running")
	f.write(path, program(n))
	return map[string]string{sha256Hex(program(n)): path}
}

func (f *forms) client(limit int64) *Client {
	f.tb.Helper()
	c := f.clientOf(f.src)
	c.cfg.MemoryLimit = limit
	return c
}

// blob is where a form's bytes lie in the repository.
func (f *forms) blob(e Encoding) string { return f.path("blobs", "sha256", e.SHA256) }

// deltaOf returns the delta of m in a format from release n.
func deltaOf(tb testing.TB, m *Manifest, format string, n int) Delta {
	tb.Helper()
	for _, d := range m.Platforms[0].Deltas {
		if d.Format == format && d.From == sha256Hex(program(n)) {
			return d
		}
	}
	tb.Fatalf("no %s delta from release %d among %+v", format, n, m.Platforms[0].Deltas)
	return Delta{}
}

// wantOnly expects the binary of release n at dst and nothing beside it.
func (f *forms) wantOnly(n int) {
	f.tb.Helper()
	if !bytes.Equal(f.read(f.dst), program(n)) {
		f.tb.Error("the binary differs")
	}
	f.wantFiles("agent")
}

func (f *forms) wantFiles(names ...string) {
	f.tb.Helper()
	entries, err := os.ReadDir(filepath.Dir(f.dst))
	if err != nil {
		f.tb.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, names) {
		f.tb.Errorf("beside the binary: %q, want %q", got, names)
	}
}
