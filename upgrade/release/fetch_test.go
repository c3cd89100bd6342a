package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recordingSource notes what is asked of a source, and may cut what it gives.
type recordingSource struct {
	Source

	offsets []int64
	limit   int64 // bytes after which the stream ends; 0 means never
	length  int64 // size claimed; 0 means the true one
	endless bool  // go on with zeros for ever
}

func (s *recordingSource) Open(ctx context.Context, path string, offset int64) (io.ReadCloser, int64, error) {
	body, total, err := s.Source.Open(ctx, path, offset)
	if err != nil || !strings.HasPrefix(path, "blobs/") {
		return body, total, err
	}
	s.offsets = append(s.offsets, offset)
	if s.length != 0 {
		total = s.length
	}
	var r io.Reader = body
	if s.limit > 0 {
		r = io.LimitReader(r, s.limit)
	}
	if s.endless {
		r = io.MultiReader(r, zeros{})
	}
	return struct {
		io.Reader
		io.Closer
	}{r, body}, total, nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// fetchFixture publishes 1.0.0 and returns its verified manifest.
func fetchFixture(t *testing.T) (f *fixture, src *recordingSource, m *Manifest, dst string) {
	t.Helper()
	f = newFixture(t)
	f.publish("1.0.0")
	return f, &recordingSource{Source: f.source()}, f.manifest("1.0.0"), filepath.Join(t.TempDir(), "agent")
}

func TestInterruptedDownloadIsResumed(t *testing.T) {
	f, src, m, dst := fetchFixture(t)
	src.limit = 100_000
	_, err := f.clientOf(src).Fetch(t.Context(), m, dst, FetchOptions{})
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "100000 of") {
		t.Fatalf("truncated stream: %v", err)
	}
	if _, err := os.Stat(dst); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("half a binary has its final name: %v", err)
	}
	src.limit = 0
	var last, total int64
	if _, err := f.clientOf(src).Fetch(t.Context(), m, dst, FetchOptions{Progress: func(p FetchProgress) { last, total = p.Done, p.Total }}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(f.read(dst), content("1.0.0")) {
		t.Error("the resumed binary differs")
	}
	if len(src.offsets) != 2 || src.offsets[1] != 100_000 {
		t.Errorf("asked for offsets %v, want 0 and 100000", src.offsets)
	}
	if size := m.Platforms[0].Size; last != size || total != size {
		t.Errorf("progress ended at %d of %d, want %d", last, total, size)
	}
}

func TestCompleteUnverifiedFileIsNotDownloadedAgain(t *testing.T) {
	f, src, m, dst := fetchFixture(t)
	f.write(dst+UnverifiedSuffix, content("1.0.0"))
	if _, err := f.clientOf(src).Fetch(t.Context(), m, dst, FetchOptions{}); err != nil {
		t.Fatal(err)
	}
	if len(src.offsets) != 0 {
		t.Errorf("asked for offsets %v, want none", src.offsets)
	}
}

func TestForeignBytesInTheUnverifiedFileDoNotStick(t *testing.T) {
	for name, left := range map[string][]byte{
		"other release":  content("9.9.9")[:300_000],
		"same size":      bytes.Repeat([]byte{7}, len(content("1.0.0"))),
		"longer":         bytes.Repeat([]byte{7}, 2*len(content("1.0.0"))),
		"one bit":        append([]byte{content("1.0.0")[0] ^ 1}, content("1.0.0")[1:500]...),
		"empty":          {},
		"right but more": append(content("1.0.0"), 'x'),
	} {
		t.Run(name, func(t *testing.T) {
			f, src, m, dst := fetchFixture(t)
			f.write(dst+UnverifiedSuffix, left)
			if _, err := f.clientOf(src).Fetch(t.Context(), m, dst, FetchOptions{}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(f.read(dst), content("1.0.0")) {
				t.Error("the binary differs")
			}
		})
	}
}

func TestUnboundedDataIsCutAtTheSignedSize(t *testing.T) {
	f, src, m, dst := fetchFixture(t)
	src.endless, src.limit, src.length = true, 100, -1
	var most int64
	_, err := f.clientOf(src).Fetch(t.Context(), m, dst, FetchOptions{Progress: func(p FetchProgress) { most = max(most, p.Done) }})
	if !errors.Is(err, ErrDigest) {
		t.Errorf("endless zeros: %v, want ErrDigest", err)
	}
	if most > m.Platforms[0].Size {
		t.Errorf("%d bytes were kept, %d are signed", most, m.Platforms[0].Size)
	}
	if _, err := os.Stat(dst + UnverifiedSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("useless bytes stay on the disk: %v", err)
	}
}

func TestWrongSizeIsRefusedBeforeTheFirstByte(t *testing.T) {
	f, src, m, dst := fetchFixture(t)
	src.length = m.Platforms[0].Size + 1
	var most int64
	_, err := f.clientOf(src).Fetch(t.Context(), m, dst, FetchOptions{Progress: func(p FetchProgress) { most = max(most, p.Done) }})
	if !errors.Is(err, ErrDigest) || most != 0 {
		t.Errorf("error %v after %d bytes, want ErrDigest after none", err, most)
	}
}

func TestManifestMadeByHandCannotNameAPath(t *testing.T) {
	f, src, _, dst := fetchFixture(t)
	f.write(f.path("blobs", "sha256", "other"), []byte("0123456789"))
	for _, p := range []Platform{
		{OS: "linux", Arch: "amd64", SHA256: "../../index.json", Size: 10},
		{OS: "linux", Arch: "amd64", SHA256: "other", Size: 10},
		{OS: "linux", Arch: "amd64", SHA256: goodDigest, Size: -1},
	} {
		m := &Manifest{Name: "agentd", Version: "1.0.0", Platforms: []Platform{p}}
		if _, err := f.clientOf(src).Fetch(t.Context(), m, dst, FetchOptions{}); err == nil || errors.Is(err, ErrDigest) || len(src.offsets) != 0 {
			t.Errorf("%+v: error %v, opened %v", p, err, src.offsets)
		}
	}
}

func TestDownloadEndsWithItsContext(t *testing.T) {
	f, src, m, dst := fetchFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := f.clientOf(src).Fetch(ctx, m, dst, FetchOptions{Progress: func(p FetchProgress) {
		if p.Done > 0 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	info, err := os.Stat(dst + UnverifiedSuffix)
	if err != nil || info.Size() != fetchChunk {
		t.Errorf("kept for resuming: %v, %v; want one chunk", info, err)
	}
}

func TestDownloadedFileIsPrivateAndNotExecutable(t *testing.T) {
	f, src, m, dst := fetchFixture(t)
	if _, err := f.clientOf(src).Fetch(t.Context(), m, dst, FetchOptions{}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dst)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v (%v), want 0600", info.Mode(), err)
	}
}

func TestEveryPlatformGetsItsOwnBinary(t *testing.T) {
	f := newFixture(t)
	rel := f.release("1.0.0")
	for i, arch := range []string{"arm64", "riscv64"} {
		path := filepath.Join(t.TempDir(), arch)
		f.write(path, fmt.Append(nil, "binary for ", arch, i))
		rel.Binaries = append(rel.Binaries, Binary{OS: "linux", Arch: arch, Path: path})
	}
	pin, err := f.repository(1).Publish(t.Context(), rel)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(ClientConfig{Source: f.source(), Trust: fixtureTrust(t, 1), Name: "agentd", OS: "linux", Arch: "riscv64", Now: f.now})
	if err != nil {
		t.Fatal(err)
	}
	m, raw, signature, err := c.Manifest(t.Context(), pin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fixtureTrust(t, 1).VerifyManifest("agentd", "1.0.0", raw, signature); err != nil {
		t.Errorf("what Manifest returns cannot be verified again later: %v", err)
	}
	dst := filepath.Join(t.TempDir(), "agent")
	if _, err := c.Fetch(t.Context(), m, dst, FetchOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := string(f.read(dst)); !strings.Contains(got, "riscv64") {
		t.Errorf("got %q", got)
	}
}
