package release

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/memory"
)

func TestTheFormOfTheFewestBytesIsTaken(t *testing.T) {
	repo := newForms(t)
	repo.publish(0)
	repo.publish(1)
	m := repo.publish(2)
	for name, c := range map[string]struct {
		running int // release that is here; -1 for none
		limit   int64
		want    string
		passed  int
	}{
		"delta from the release before":    {running: 1, want: "bsdiff from "},
		"delta from the one before it":     {running: 0, want: "bsdiff from "},
		"nothing here":                     {running: -1, want: "zstd"},
		"memory for zstd's delta only":     {running: 1, limit: 12 << 20, want: "zstd from ", passed: 1},
		"memory for no delta":              {running: 1, limit: 1 << 20, want: "zstd", passed: 2},
		"no deltas wanted":                 {running: 1, limit: -1, want: "zstd", passed: 2},
		"a release that has no delta here": {running: 5, want: "zstd"},
	} {
		t.Run(name, func(t *testing.T) {
			f := repo.host(t)
			var opts FetchOptions
			if c.running >= 0 {
				opts.Old = f.old(c.running)
			}
			var told FetchProgress
			opts.Progress = func(p FetchProgress) { told = p }
			got, err := f.client(c.limit).Fetch(t.Context(), m, f.dst, opts)
			if err != nil {
				t.Fatal(err)
			}
			f.wantOnly(2)
			if !strings.HasPrefix(got.Form, c.want) || strings.Contains(c.want, "from") != strings.Contains(got.Form, "from") || len(got.Passed) != c.passed {
				t.Errorf("took %q, passed %v; want %q", got.Form, got.Passed, c.want)
			}
			for _, err := range got.Passed {
				if !errors.Is(err, memory.ErrNotEnough) {
					t.Errorf("passed for %v", err)
				}
			}
			if told.Form != got.Form || told.Done != got.Bytes || told.Total != got.Bytes || (told.Passed != "") != (c.passed > 0) {
				t.Errorf("told %+v of %+v", told, got)
			}
			if got.Bytes >= m.Platforms[0].Size*3/4 {
				t.Errorf("%d of %d bytes were moved", got.Bytes, m.Platforms[0].Size)
			}
		})
	}
}

// Whatever is wrong with a smaller form, the next one leads to the release.
func TestUselessFormGivesWayToTheNext(t *testing.T) {
	repo := newForms(t)
	repo.publish(1)
	m := repo.publish(2)
	for name, c := range map[string]struct {
		harm func(f *forms, m *Manifest, opts *FetchOptions)
		want string // form that is taken in the end
		why  error
	}{
		"delta absent": {want: "zstd from ", why: ErrNotFound, harm: func(f *forms, m *Manifest, _ *FetchOptions) {
			f.remove(f.blob(deltaOf(t, m, FormatBSDiff, 1).Encoding))
		}},
		"deltas altered": {want: "zstd", why: ErrDigest, harm: func(f *forms, m *Manifest, _ *FetchOptions) {
			for _, d := range m.Platforms[0].Deltas {
				f.write(f.blob(d.Encoding), make([]byte, d.Size))
			}
		}},
		"truncated encoding": {want: "plain", why: ErrDigest, harm: func(f *forms, m *Manifest, opts *FetchOptions) {
			opts.Old = nil
			e := m.Platforms[0].Encodings[0]
			f.write(f.blob(e), f.read(f.blob(e))[:e.Size/2])
		}},
		"wrong old file": {want: "zstd", why: ErrDigest, harm: func(f *forms, _ *Manifest, opts *FetchOptions) {
			for _, path := range opts.Old {
				f.write(path, append(program(1), 'x'))
			}
		}},
		"old file gone": {want: "zstd", why: fs.ErrNotExist, harm: func(f *forms, _ *Manifest, opts *FetchOptions) {
			for _, path := range opts.Old {
				f.remove(path)
			}
		}},
		"all but the binary gone": {want: "plain", why: ErrNotFound, harm: func(f *forms, m *Manifest, _ *FetchOptions) {
			for _, e := range append([]Encoding{m.Platforms[0].Encodings[0]}, deltaOf(t, m, FormatZstd, 1).Encoding, deltaOf(t, m, FormatBSDiff, 1).Encoding) {
				f.remove(f.blob(e))
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newForms(t)
			if err := os.CopyFS(f.dir, os.DirFS(repo.dir)); err != nil {
				t.Fatal(err)
			}
			opts := FetchOptions{Old: f.old(1)}
			c.harm(f, m, &opts)
			got, err := f.client(0).Fetch(t.Context(), m, f.dst, opts)
			if err != nil {
				t.Fatal(err)
			}
			f.wantOnly(2)
			if !strings.HasPrefix(got.Form, c.want) || (c.want == "zstd" && got.Form != "zstd") || len(got.Passed) == 0 || !errors.Is(got.Passed[0], c.why) {
				t.Errorf("took %q, passed %v; want %q for %v", got.Form, got.Passed, c.want, c.why)
			}
		})
	}
}

func TestInterruptedFormIsResumedUnderItsOwnName(t *testing.T) {
	f := newForms(t)
	m := f.publish(1)
	zstd := m.Platforms[0].Encodings[0]
	f.src.limit = 100_000
	if _, err := f.client(0).Fetch(t.Context(), m, f.dst, FetchOptions{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("truncated streams: %v", err)
	}
	f.wantFiles("agent.unverified", "agent.zstd-"+zstd.SHA256[:12]+".unverified")
	f.src.limit, f.src.offsets = 0, nil
	got, err := f.client(0).Fetch(t.Context(), m, f.dst, FetchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f.wantOnly(1)
	if len(f.src.offsets) != 1 || f.src.offsets[0] != 100_000 || got.Form != "zstd" || got.Bytes != zstd.Size-100_000 {
		t.Errorf("asked for offsets %v, took %+v; want the rest of zstd", f.src.offsets, got)
	}
}

func TestBinaryThatIsThereIsNotFetchedAgain(t *testing.T) {
	f := newForms(t)
	m := f.publish(1)
	f.write(f.dst, program(1))
	if got, err := f.client(0).Fetch(t.Context(), m, f.dst, FetchOptions{}); err != nil || got.Bytes != 0 || got.Form != "" || len(f.src.offsets) > 0 {
		t.Errorf("%+v, %v after opening %v", got, err, f.src.offsets)
	}
	f.write(f.dst, program(2))
	if got, err := f.client(0).Fetch(t.Context(), m, f.dst, FetchOptions{}); err != nil || got.Form != "zstd" {
		t.Errorf("another file in its place: %+v, %v", got, err)
	}
	f.wantOnly(1)
}

func TestSameReleaseGivesTheSameBytes(t *testing.T) {
	var manifests [2][]byte
	for i := range manifests {
		f := newForms(t)
		f.publish(0)
		f.publish(1)
		manifests[i] = f.read(f.path(manifestPath(f.entry(version(1)).Manifest)))
	}
	if !bytes.Equal(manifests[0], manifests[1]) {
		t.Errorf("published twice:\n%s\n%s", manifests[0], manifests[1])
	}
}

// A publisher whose binary was built again, or who mends a repository, gets
// the release as it was signed, also when there are newer ones.
func TestPublishingAgainMendsSmallerForms(t *testing.T) {
	f := newForms(t)
	f.publish(0)
	m := f.publish(1)
	f.publish(2)
	zstd := f.blob(m.Platforms[0].Encodings[0])
	delta := f.blob(deltaOf(t, m, FormatBSDiff, 0).Encoding)
	before := [][]byte{f.read(zstd), f.read(delta)}
	f.remove(zstd)
	f.write(delta, []byte("damaged"))
	if _, err := f.add(1, program(1)); err != nil {
		t.Fatal(err)
	}
	for i, path := range []string{zstd, delta} {
		if !bytes.Equal(f.read(path), before[i]) {
			t.Errorf("%s is not as it was", path)
		}
	}
	if _, err := f.add(1, program(3)); err == nil || !strings.Contains(err.Error(), "other content") {
		t.Errorf("other content under a known version: %v", err)
	}
}

func TestDeltasComeFromTheLastReleasesBelow(t *testing.T) {
	f := newForms(t)
	f.publish(0)
	f.publish(1)
	f.publish(2)
	if err := f.repository().Yank(t.Context(), "agentd", version(2), "bad"); err != nil {
		t.Fatal(err)
	}
	f.publish(5)
	m := f.publish(4)
	if got := froms(m); !slices.Equal(got, []int{0, 1, 2}) {
		t.Errorf("deltas from releases %v, want the two below that are offered and the withdrawn one", got)
	}
}

func TestFormThatIsNotSmallerIsLeftOut(t *testing.T) {
	f := newForms(t)
	f.publish(0)
	m, err := f.add(1, []byte("tiny"))
	if err != nil {
		t.Fatal(err)
	}
	if p := m.Platforms[0]; len(p.Encodings)+len(p.Deltas) > 0 {
		t.Errorf("encodings %+v, deltas %+v of a binary of 4 bytes", p.Encodings, p.Deltas)
	}
	left, err := filepath.Glob(f.path("blobs", "sha256", ".tmp-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestZstdCommandReadsWhatIsPublishedAndIsRead(t *testing.T) {
	command, err := exec.LookPath("zstd")
	if err != nil {
		t.Skipf("zstd is not installed (Debian: apt-get install zstd): %v", err)
	}
	f := newForms(t)
	f.publish(0)
	m := f.publish(1)
	dir := t.TempDir()
	old, current := filepath.Join(dir, "old"), filepath.Join(dir, "current")
	f.write(old, program(0))
	f.write(current, program(1))
	run := func(args ...string) []byte {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), command, append([]string{"-q", "-c"}, args...)...).Output()
		if err != nil {
			t.Fatalf("zstd %q: %v", args, err)
		}
		return out
	}
	for name, made := range map[string][]byte{
		"whole": run("-d", f.blob(m.Platforms[0].Encodings[0])),
		"delta": run("-d", "--patch-from="+old, f.blob(deltaOf(t, m, FormatZstd, 0).Encoding)),
	} {
		if !bytes.Equal(made, program(1)) {
			t.Errorf("%s: zstd makes something else of it", name)
		}
	}
	for name, c := range map[string]struct {
		encoded []byte
		from    []byte
		window  int64
	}{
		"whole, level 19": {encoded: run("-19", current), window: maxWindow},
		"whole, level 1":  {encoded: run("-1", current), window: maxWindow},
		"delta":           {encoded: run("-19", "--patch-from="+old, current), from: program(0), window: deltaWindow(int64(len(program(1))))},
	} {
		var made bytes.Buffer
		if err := decodeZstd(&made, bytes.NewReader(c.encoded), c.from, c.window); err != nil || !bytes.Equal(made.Bytes(), program(1)) {
			t.Errorf("%s: %d bytes, %v", name, made.Len(), err)
		}
	}
}

func TestBsdiffCommandIsRead(t *testing.T) {
	command, err := exec.LookPath("bsdiff")
	if err != nil {
		t.Skipf("bsdiff is not installed (Debian: apt-get install bsdiff): %v", err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{"old": program(0), "current": program(1)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), command, "old", "current", "patch")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	patch, err := os.ReadFile(filepath.Join(dir, "patch"))
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(program(1)))
	if err := checkBSDiff(bytes.NewReader(patch), int64(len(patch)), size); err != nil {
		t.Fatal(err)
	}
	var made bytes.Buffer
	if err := applyBSDiff(bytes.NewReader(program(0)), &made, bytes.NewReader(patch)); err != nil || !bytes.Equal(made.Bytes(), program(1)) {
		t.Errorf("%d bytes, %v", made.Len(), err)
	}
}
