package release

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
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
