package release

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// fetchWhileTheCacheFillsUp fetches m by way of a cache in dir, where only keep
// bytes are left once the first have come.
func (f *forms) fetchWhileTheCacheFillsUp(t *testing.T, m *Manifest, dir string, keep int64) error {
	t.Helper()
	cache, err := NewCache(CacheConfig{Dir: filepath.Join(dir, "cache"), Source: f.src})
	if err != nil {
		t.Fatal(err)
	}
	filled := false
	_, err = f.clientOf(cache).Fetch(t.Context(), m, f.dst, FetchOptions{Progress: func(p FetchProgress) {
		if p.Done > 0 && !filled {
			filled = true
			if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
				t.Error(err)
			}
			fill(t, dir, keep)
		}
	}})
	return err
}

// The reader meets the full disk and the part, which is written first, does not:
// it is half of what keeps the disk full.
func TestDiskThatFillsUpUnderACacheIsGivenBack(t *testing.T) {
	f := newForms(t)
	m, err := f.add(1, largeProgram(1))
	if err != nil {
		t.Fatal(err)
	}
	m.Platforms[0].Encodings = nil
	dir := f.onSmallDisk(t, 3<<20)
	// There is room for the part's next chunk, not for the reader's.
	if err := f.fetchWhileTheCacheFillsUp(t, m, dir, fetchChunk+fetchChunk/4); !errors.Is(err, ErrNoSpace) {
		t.Errorf("error %v, want ErrNoSpace", err)
	}
	assertNothingLeft(t, filepath.Join(dir, "cache", contentDir), partPrefix)
}

// The part meets the full disk and the reader, whose disk is another, does not:
// it must have its binary, and the cache its room.
func TestCacheWhoseDiskFillsUpGivesTheRoomBackAndTheReaderItsBinary(t *testing.T) {
	f := newForms(t)
	m, err := f.add(1, largeProgram(1))
	if err != nil {
		t.Fatal(err)
	}
	m.Platforms[0].Encodings = nil
	dst := f.dst
	dir := f.onSmallDisk(t, 3<<20)
	f.dst = dst
	if err := f.fetchWhileTheCacheFillsUp(t, m, dir, fetchChunk/4); err != nil {
		t.Fatal(err)
	}
	assertNothingLeft(t, filepath.Join(dir, "cache", contentDir), partPrefix)
}
