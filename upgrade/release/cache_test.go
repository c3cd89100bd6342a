package release

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// countingSource notes every path that is asked for.
type countingSource struct {
	Source

	mu    sync.Mutex
	asked []string
}

func (s *countingSource) Open(ctx context.Context, path string, offset int64) (io.ReadCloser, int64, error) {
	s.mu.Lock()
	s.asked = append(s.asked, path)
	s.mu.Unlock()
	return s.Source.Open(ctx, path, offset)
}

func (s *countingSource) take() (asked []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked, s.asked = s.asked, nil
	return asked
}

// cacheFixture is a repository of 1.0.0 and 1.1.0, and a cache's directory.
type cacheFixture struct {
	*fixture

	source *countingSource
	cache  string
}

func newCacheFixture(t *testing.T) *cacheFixture {
	t.Helper()
	f := newFixture(t)
	f.publish("1.0.0", "1.1.0")
	return &cacheFixture{fixture: f, source: &countingSource{Source: f.source()}, cache: filepath.Join(t.TempDir(), "cache")}
}

func (f *cacheFixture) open(pull PullPolicy) *Cache {
	f.tb.Helper()
	c, err := NewCache(CacheConfig{Dir: f.cache, Source: f.source, Pull: pull, Fill: "agentd release pull"})
	if err != nil {
		f.tb.Fatal(err)
	}
	return c
}

// host is a client with a new state of its own.
func (f *cacheFixture) host(pull PullPolicy) *Client {
	f.tb.Helper()
	f.state = filepath.Join(f.tb.TempDir(), "trust.json")
	return f.clientOf(f.open(pull))
}

func (f *cacheFixture) mustInstall(pull PullPolicy, version string) (path string) {
	f.tb.Helper()
	path, err := f.install(context.Background(), f.host(pull), version)
	if err != nil {
		f.tb.Fatal(err)
	}
	if !bytes.Equal(f.read(path), content(version)) {
		f.tb.Errorf("what was installed is not %s", version)
	}
	return path
}

// blob is the cache's entry of a version's binary.
func (f *cacheFixture) blob(version string) string {
	return filepath.Join(f.cache, contentDir, f.fixture.manifest(version).Platforms[0].SHA256)
}

func (f *cacheFixture) kept(name string) string {
	return filepath.Join(f.cache, filepath.FromSlash(f.open(PullAlways).index), filepath.FromSlash(name))
}

func TestPullPolicyDecidesWhoIsAsked(t *testing.T) {
	f := newCacheFixture(t)
	f.mustInstall(PullAlways, "1.1.0")
	first := f.source.take()
	if len(first) != 7 { // index and its signature, twice; manifest, its signature, binary
		t.Errorf("at first %q are asked for", first)
	}
	f.mustInstall(PullAlways, "1.1.0")
	for _, path := range f.source.take() {
		if contentDigest(path) != "" {
			t.Errorf("Always: %s, which never changes, was asked for again", path)
		}
	}
	for _, pull := range []PullPolicy{PullIfNotPresent, PullNever} {
		f.mustInstall(pull, "1.1.0")
		if asked := f.source.take(); len(asked) > 0 {
			t.Errorf("%s: asked for %q, all of which is in the cache", pull, asked)
		}
	}
	f.mustInstall(PullIfNotPresent, "1.0.0")
	if asked := f.source.take(); len(asked) != 3 {
		t.Errorf("IfNotPresent: asked for %q, want a manifest, its signature and a binary", asked)
	}
}

func TestNeverSaysWhatToDoInsteadOfAsking(t *testing.T) {
	f := newCacheFixture(t)
	check := func(name string, want error, err error) {
		t.Helper()
		if !errors.Is(err, want) || !strings.Contains(err.Error(), "agentd release pull") || !strings.Contains(err.Error(), f.cache) {
			t.Errorf("%s: error %v, want %v that names the cache and the command", name, err, want)
		}
		if asked := f.source.take(); len(asked) > 0 {
			t.Errorf("%s: asked for %q", name, asked)
		}
	}
	_, err := f.host(PullNever).Resolve(t.Context(), "1.1.0")
	check("empty cache", ErrNotCached, err)
	if errors.Is(err, ErrNotFound) {
		t.Errorf("a file that is merely not cached counts as absent: %v", err)
	}
	f.mustInstall(PullAlways, "1.1.0")
	f.source.take()
	pin := f.entry("1.0.0").Pin()
	_, _, _, err = f.host(PullNever).Manifest(t.Context(), pin)
	check("manifest that was not fetched", ErrNotCached, err)
	_, err = f.host(PullNever).Fetch(t.Context(), f.manifest("1.0.0"), filepath.Join(t.TempDir(), "agent"), FetchOptions{})
	check("binary that was not fetched", ErrNotCached, err)
	f.publish("1.2.0")
	_, err = f.host(PullNever).Resolve(t.Context(), "1.2.0")
	check("version that the kept index lacks", ErrNotFound, err)
	f.clock = f.clock.Add(fixtureValidity)
	_, err = f.host(PullNever).Resolve(t.Context(), "1.1.0")
	check("kept index that has expired", ErrExpired, err)
}

func TestKeptIndexThatWillNotDoIsAskedForAnew(t *testing.T) {
	for name, tt := range map[string]struct {
		version string
		spoil   func(f *cacheFixture, host *Client)
	}{
		"expired": {"1.1.0", func(f *cacheFixture, _ *Client) {
			f.clock = f.clock.Add(fixtureValidity)
			if err := f.repository(1).Refresh(context.Background(), "agentd"); err != nil {
				f.tb.Fatal(err)
			}
		}},
		"version not in it":           {"1.2.0", func(f *cacheFixture, _ *Client) { f.publish("1.2.0") }},
		"older than the host has had": {"1.1.0", replayKept},
		"forged": {"1.1.0", func(f *cacheFixture, _ *Client) {
			f.overwrite(f.kept(indexPath), []byte(`{"schema":1}`))
		}},
		"huge": {"1.1.0", func(f *cacheFixture, _ *Client) {
			f.overwrite(f.kept(indexPath), make([]byte, MaxIndexSize+1))
		}},
		"signature gone": {"1.1.0", func(f *cacheFixture, _ *Client) { f.remove(f.kept("indexes")) }},
		"signature of another": {"1.1.0", func(f *cacheFixture, _ *Client) {
			f.overwrite(f.kept(indexSignaturePath(sha256Hex(f.read(f.path(indexPath))))), f.read(f.path(manifestPath(f.entry("1.0.0").Manifest)+signatureSuffix)))
		}},
		"symbolic link": {"1.1.0", func(f *cacheFixture, _ *Client) {
			f.remove(f.kept(indexPath))
			if err := os.Symlink("/etc/passwd", f.kept(indexPath)); err != nil {
				f.tb.Fatal(err)
			}
		}},
		"manifest signature forged": {"1.1.0", func(f *cacheFixture, _ *Client) {
			f.overwrite(f.kept(manifestPath(f.entry("1.1.0").Manifest)+signatureSuffix), []byte("forged"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newCacheFixture(t)
			f.mustInstall(PullIfNotPresent, "1.1.0")
			host := f.clientOf(f.open(PullIfNotPresent))
			tt.spoil(f, host)
			f.source.take()
			if _, err := f.install(t.Context(), host, tt.version); err != nil {
				t.Fatal(err)
			}
			if asked := f.source.take(); len(asked) == 0 {
				t.Error("the source was not asked")
			}
			f.mustInstall(PullIfNotPresent, tt.version)
			if asked := f.source.take(); len(asked) > 0 {
				t.Errorf("what was fetched anew was not kept: %q", asked)
			}
		})
	}
}

// replayKept takes the cache back to an earlier index, which is good but for
// a host that has seen a later one.
func replayKept(f *cacheFixture, host *Client) {
	kept := filepath.Join(f.tb.TempDir(), "kept")
	if err := os.CopyFS(kept, os.DirFS(f.cache)); err != nil {
		f.tb.Fatal(err)
	}
	f.publish("1.2.0")
	if _, err := host.Resolve(context.Background(), "1.2.0"); err != nil {
		f.tb.Fatal(err)
	}
	f.remove(f.cache)
	if err := os.CopyFS(f.cache, os.DirFS(kept)); err != nil {
		f.tb.Fatal(err)
	}
}

// overwrite replaces a file, as another user with access to its directory can.
func (f *cacheFixture) overwrite(path string, data []byte) {
	f.tb.Helper()
	f.remove(path)
	f.write(path, data)
}

func TestYankedVersionOfTheKeptIndexIsRefusedWithoutAsking(t *testing.T) {
	f := newCacheFixture(t)
	if err := f.repository(1).Yank(context.Background(), "agentd", "1.0.0", "loses records"); err != nil {
		t.Fatal(err)
	}
	f.mustInstall(PullAlways, "1.1.0")
	f.source.take()
	if _, err := f.host(PullIfNotPresent).Resolve(t.Context(), "1.0.0"); !errors.Is(err, ErrYanked) {
		t.Errorf("error %v, want ErrYanked", err)
	}
	if asked := f.source.take(); len(asked) > 0 {
		t.Errorf("asked for %q", asked)
	}
}

func TestCacheTakesNoEndlessOrTruncatedOrFalseData(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(*recordingSource)
		want  error
	}{
		"endless data":   {func(s *recordingSource) { s.endless, s.length = true, -1 }, nil},
		"truncated data": {func(s *recordingSource) { s.limit = 100_000 }, io.ErrUnexpectedEOF},
		"false data":     {func(s *recordingSource) { s.limit, s.endless, s.length = 100_000, true, -1 }, ErrDigest},
		"another length": {func(s *recordingSource) { s.length = 10 }, ErrDigest},
	} {
		t.Run(name, func(t *testing.T) {
			f, src, m, dst := fetchFixture(t)
			tt.spoil(src)
			dir := filepath.Join(t.TempDir(), "cache")
			cache, err := NewCache(CacheConfig{Dir: dir, Source: src})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.clientOf(cache).Fetch(t.Context(), m, dst, FetchOptions{}); !errors.Is(err, tt.want) || (tt.want == nil && err != nil) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			digest := m.Platforms[0].SHA256
			if _, err := os.Stat(filepath.Join(dir, contentDir, digest)); (err == nil) != (tt.want == nil) {
				t.Errorf("entry in the cache: %v", err)
			}
			// Whatever is left does not stand in the way of the truth.
			src.limit, src.length, src.endless = 0, 0, false
			if _, err := f.clientOf(cache).Fetch(t.Context(), m, dst, FetchOptions{}); err != nil {
				t.Errorf("from a source that was mended: %v", err)
			}
			entries, err := os.ReadDir(filepath.Join(dir, contentDir))
			if err != nil || len(entries) > 1 {
				t.Errorf("left in the cache: %v, %v", entries, err)
			}
		})
	}
}

func TestPartialDownloadInTheCacheIsResumed(t *testing.T) {
	f, src, m, dst := fetchFixture(t)
	src.limit = 200_000
	dir := filepath.Join(t.TempDir(), "cache")
	cache, err := NewCache(CacheConfig{Dir: dir, Source: src})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.clientOf(cache).Fetch(t.Context(), m, dst, FetchOptions{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("truncated: %v", err)
	}
	// Another agent, which has nothing, goes on where the first one stopped.
	src.limit = 0
	other := filepath.Join(t.TempDir(), "agent")
	if _, err := f.clientOf(cache).Fetch(t.Context(), m, other, FetchOptions{}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(src.offsets, []int64{0, 200_000}) || !bytes.Equal(f.read(other), content("1.0.0")) {
		t.Errorf("asked for offsets %v, want 0 and 200000", src.offsets)
	}
	if _, err := f.clientOf(cache).Fetch(t.Context(), m, dst, FetchOptions{}); err != nil || len(src.offsets) != 2 {
		t.Errorf("the first agent: %v, offsets %v, want it served from the cache", err, src.offsets)
	}
}

func TestDamagedPartInTheCacheFailsNothing(t *testing.T) {
	f, src, m, dst := fetchFixture(t)
	for name, part := range map[string][]byte{
		"another beginning":  make([]byte, 100_000),
		"as long as it ends": make([]byte, m.Platforms[0].Size),
		"longer":             make([]byte, m.Platforms[0].Size+1000),
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cache")
			cache, err := NewCache(CacheConfig{Dir: dir, Source: src})
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, partPath(m.Platforms[0].SHA256))
			f.write(path, part)
			if err := os.Chmod(path, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := f.clientOf(cache).Fetch(t.Context(), m, dst, FetchOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCacheThatCannotKeepAnythingFailsNothing(t *testing.T) {
	f := newCacheFixture(t)
	f.write(f.cache, []byte("a file where the directory should be"))
	for _, pull := range []PullPolicy{PullAlways, PullIfNotPresent} {
		f.mustInstall(pull, "1.1.0")
	}
}

func TestCacheOfNothingIsRefused(t *testing.T) {
	f := newFixture(t)
	for name, cfg := range map[string]CacheConfig{
		"no directory": {Source: f.source()},
		"no source":    {Dir: "x"},
		"policy":       {Dir: "x", Source: f.source(), Pull: "Sometimes"},
		"size":         {Dir: "x", Source: f.source(), MaxBytes: -1},
	} {
		if _, err := NewCache(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
