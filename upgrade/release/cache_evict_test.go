package release

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestCacheNeverGrowsBeyondItsBoundByEndlessData(t *testing.T) {
	f, src, m, _ := fetchFixture(t)
	src.endless, src.length = true, -1
	dir := filepath.Join(t.TempDir(), "cache")
	cache, err := NewCache(CacheConfig{Dir: dir, Source: src, MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	body, _, err := cache.Open(t.Context(), blobPath(m.Platforms[0].SHA256), 0)
	if err != nil {
		t.Fatal(err)
	}
	// The reader of a Source is the one that bounds what it reads.
	if n, err := io.CopyN(io.Discard, body, 5<<20); err != nil {
		t.Errorf("after %d bytes: %v", n, err)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, contentDir)); err != nil || len(entries) > 0 {
		t.Errorf("kept: %v, %v", entries, err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
	_ = f
}

func TestEvictionDeletesWhatWasUsedLongestAgoAndSparesReaders(t *testing.T) {
	f := newCacheFixture(t)
	f.publish("1.2.0", "1.3.0")
	size := int64(len(content("1.0.0")))
	open := func() *Cache {
		c, err := NewCache(CacheConfig{Dir: f.cache, Source: f.source, MaxBytes: 3*size + size/2})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	at := time.Now().Add(-100 * time.Hour)
	versions := []string{"1.0.0", "1.1.0", "1.2.0"}
	for i, v := range versions {
		f.state = filepath.Join(t.TempDir(), "trust.json")
		if _, err := f.install(t.Context(), f.clientOf(open()), v); err != nil {
			t.Fatal(err)
		}
		then := at.Add(time.Duration(i) * time.Hour)
		if err := os.Chtimes(f.blob(v), then, then); err != nil {
			t.Fatal(err)
		}
	}
	// 1.0.0 is used again, and 1.1.0, now the oldest, is being read.
	if _, err := f.install(t.Context(), f.clientOf(open()), "1.0.0"); err != nil {
		t.Fatal(err)
	}
	reader, _, err := open().Open(t.Context(), blobPath(filepath.Base(f.blob("1.1.0"))), 0)
	if err != nil {
		t.Fatal(err)
	}
	then := at
	if err := os.Chtimes(f.blob("1.1.0"), then, then); err != nil {
		t.Fatal(err)
	}
	if _, err := f.install(t.Context(), f.clientOf(open()), "1.3.0"); err != nil {
		t.Fatal(err)
	}
	for version, want := range map[string]bool{"1.0.0": true, "1.1.0": true, "1.2.0": false, "1.3.0": true} {
		if _, err := os.Stat(f.blob(version)); (err == nil) != want {
			t.Errorf("%s in the cache: %v, want %v", version, err == nil, want)
		}
	}
	got, err := io.ReadAll(reader)
	if err = errors.Join(err, reader.Close()); err != nil || !bytes.Equal(got, content("1.1.0")) {
		t.Errorf("the reader of 1.1.0: %d bytes, %v", len(got), err)
	}
}
