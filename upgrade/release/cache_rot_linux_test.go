package release

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// rot flips a bit of a cached file, which neither its size nor its time shows.
func (f *cacheFixture) rot(path string, age time.Duration) {
	f.tb.Helper()
	data := f.read(path)
	data[len(data)/2] ^= 1
	then := time.Now().Add(-age)
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, data, 0o600), os.Chmod(path, entryMode), os.Chtimes(path, then, then)); err != nil {
		f.tb.Fatal(err)
	}
}

// The time of the last use is written once in an hour only, so that the ages
// take two ways.
func TestRottenBinaryInTheCacheIsMendedByTheProcessThatMeetsIt(t *testing.T) {
	for name, age := range map[string]time.Duration{"used just now": 0, "used long ago": 3 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			f := newCacheFixture(t)
			f.mustInstall(PullAlways, "1.1.0")
			f.rot(f.blob("1.1.0"), age)
			host := f.host(PullIfNotPresent)
			path, err := f.install(t.Context(), host, "1.1.0")
			if err != nil || !bytes.Equal(f.read(path), content("1.1.0")) {
				t.Fatalf("not installed: %v", err)
			}
			if !bytes.Equal(f.read(f.blob("1.1.0")), content("1.1.0")) {
				t.Error("the entry is rotten still")
			}
		})
	}
}

// An entry that has rotted after this process verified it.
func TestBinaryThatRotsAfterItWasVerifiedIsMended(t *testing.T) {
	f := newCacheFixture(t)
	cache := f.open(PullIfNotPresent)
	f.state = filepath.Join(t.TempDir(), "trust.json")
	if _, err := f.install(t.Context(), f.clientOf(cache), "1.1.0"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(f.blob("1.1.0"))
	if err != nil {
		t.Fatal(err)
	}
	f.rot(f.blob("1.1.0"), 0)
	if err := os.Chtimes(f.blob("1.1.0"), info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	path, err := f.install(t.Context(), f.clientOf(cache), "1.1.0")
	if err != nil || !bytes.Equal(f.read(path), content("1.1.0")) {
		t.Errorf("not installed: %v", err)
	}
}

// Without smaller forms, the entry would be mended by reading it.
func TestRottenBinaryInTheCacheIsMendedByWhatASmallerFormMade(t *testing.T) {
	for name, age := range map[string]time.Duration{"used just now": 0, "used long ago": 3 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			f := newForms(t)
			m := f.publish(1)
			cache, err := NewCache(CacheConfig{Dir: filepath.Join(t.TempDir(), "cache"), Source: f.src})
			if err != nil {
				t.Fatal(err)
			}
			fetch := func() Fetched {
				t.Helper()
				f.dst = filepath.Join(t.TempDir(), "agent")
				got, err := f.clientOf(cache).Fetch(t.Context(), m, f.dst, FetchOptions{})
				if err != nil {
					t.Fatal(err)
				}
				f.wantOnly(1)
				return got
			}
			fetch()
			rotten := cacheFixture{fixture: f.fixture}
			entry := filepath.Join(cache.cfg.Dir, entryPath(m.Platforms[0].SHA256))
			rotten.rot(entry, age)
			// It is not the client that finds it.
			if err := cache.LinkFrom(t.Context(), blobPath(m.Platforms[0].SHA256), f.make(program(1))); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(f.read(entry), program(1)) {
				t.Error("the entry is rotten still")
			}
			rotten.rot(entry, age)
			if got := fetch(); got.Form != FormatZstd {
				t.Errorf("%+v, want it made from zstd", got)
			}
			if got := fetch(); got.Form != formLinked {
				t.Errorf("%+v, want a link to what was mended", got)
			}
		})
	}
}

// make writes a file that only its owner can write to.
func (f *forms) make(data []byte) string {
	f.tb.Helper()
	path := filepath.Join(f.tb.TempDir(), "made")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		f.tb.Fatal(err)
	}
	return path
}

// unreadable is a cache whose files cannot be read: reading a directory fails.
type unreadable struct{ Source }

func (unreadable) LinkTo(_, dst string) error                     { return os.Mkdir(dst, 0o700) }
func (unreadable) LinkFrom(context.Context, string, string) error { return errors.ErrUnsupported }
func (unreadable) Has(string) bool                                { return false }
func (unreadable) Drop(string)                                    {}

func TestCacheOnABrokenDiskFailsNoDownload(t *testing.T) {
	f, src, m, dst := fetchFixture(t)
	got, err := f.clientOf(unreadable{src}).Fetch(t.Context(), m, dst, FetchOptions{})
	if err != nil || got.Form != FormatPlain || !bytes.Equal(f.read(dst), content("1.0.0")) {
		t.Fatalf("%+v, %v: want it from the source", got, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(dst)); err != nil || len(entries) != 1 {
		t.Errorf("beside the binary: %v, %v", entries, err)
	}
}

func TestDownloadThatFailedDoesNotSayThatItCameFromTheCache(t *testing.T) {
	f := newCacheFixture(t)
	f.mustInstall(PullAlways, "1.1.0")
	dst := filepath.Join(t.TempDir(), "no", "such", "directory")
	if got, err := f.host(PullAlways).Fetch(t.Context(), f.fixture.manifest("1.1.0"), dst, FetchOptions{}); err == nil || got.Form != "" {
		t.Errorf("%+v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dst = filepath.Join(t.TempDir(), "agent")
	got, err := f.host(PullAlways).Fetch(ctx, f.fixture.manifest("1.1.0"), dst, FetchOptions{})
	if !errors.Is(err, context.Canceled) || got.Form != "" {
		t.Errorf("cancelled: %+v, %v", got, err)
	}
	if entries, err := os.ReadDir(filepath.Dir(dst)); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// A pipe cannot be synced, which shows that it was tried.
func TestModeOfWhatIsSharedIsOnTheDiskBeforeItsName(t *testing.T) {
	f := newCacheFixture(t)
	f.mustInstall(PullAlways, "1.1.0")
	f.remove(f.blob("1.1.0"))
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	err = f.open(PullAlways).LinkFrom(t.Context(), blobPath(f.fixture.manifest("1.1.0").Platforms[0].SHA256), pipe)
	if err == nil || !strings.Contains(err.Error(), "sync") {
		t.Errorf("error %v, want one of fsync", err)
	}
	if _, err := os.Lstat(f.blob("1.1.0")); err == nil {
		t.Error("it has its name")
	}
}
