package release

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// The reader meets the full disk and the part, which is written first, does not:
// it is half of what keeps the disk full.
func TestDiskThatFillsUpUnderACacheIsGivenBack(t *testing.T) {
	f := newForms(t)
	m := f.publish(1)
	m.Platforms[0].Encodings = nil
	dir := f.onSmallDisk(t, 3<<20)
	cache, err := NewCache(CacheConfig{Dir: filepath.Join(dir, "cache"), Source: f.src})
	if err != nil {
		t.Fatal(err)
	}
	filled := false
	opts := FetchOptions{Progress: func(p FetchProgress) {
		if p.Done > 0 && !filled {
			filled = true
			if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
				t.Error(err)
			}
			fill(t, dir, fetchChunk+fetchChunk/4) // for the part's next chunk, not for the reader's
		}
	}}
	if _, err := f.clientOf(cache).Fetch(t.Context(), m, f.dst, opts); !errors.Is(err, ErrNoSpace) {
		t.Errorf("error %v, want ErrNoSpace", err)
	}
	assertNothingLeft(t, filepath.Join(dir, "cache", contentDir), partPrefix)
}

// The part meets the full disk and the reader, whose disk is another, does not:
// it must have its binary, and the cache its room.
func TestCacheWhoseDiskFillsUpGivesTheRoomBackAndTheReaderItsBinary(t *testing.T) {
	f := newForms(t)
	m := f.publish(1)
	m.Platforms[0].Encodings = nil
	dst := f.dst
	dir := f.onSmallDisk(t, 3<<20)
	f.dst = dst
	cache, err := NewCache(CacheConfig{Dir: filepath.Join(dir, "cache"), Source: f.src})
	if err != nil {
		t.Fatal(err)
	}
	filled := false
	opts := FetchOptions{Progress: func(p FetchProgress) {
		if p.Done > 0 && !filled {
			filled = true
			if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
				t.Error(err)
			}
			fill(t, dir, fetchChunk/4)
		}
	}}
	if _, err := f.clientOf(cache).Fetch(t.Context(), m, f.dst, opts); err != nil {
		t.Fatal(err)
	}
	assertNothingLeft(t, filepath.Join(dir, "cache", contentDir), partPrefix)
}
