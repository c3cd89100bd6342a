//go:build unix

package release

import (
	"os"
	"syscall"
	"testing"
)

func TestPipeInTheCacheDoesNotBlock(t *testing.T) {
	f := newCacheFixture(t)
	f.mustInstall(PullIfNotPresent, "1.1.0")
	for _, path := range []string{f.blob("1.1.0"), f.kept(indexPath)} {
		f.remove(path)
		if err := syscall.Mkfifo(path, 0o666); err != nil {
			t.Fatal(err)
		}
		f.mustInstall(PullIfNotPresent, "1.1.0")
		if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
			t.Errorf("it was not mended: %v, %v", info, err)
		}
	}
	part := f.blob("1.0.0")
	part = part[:len(part)-64] + partPath(part[len(part)-64:])[len(contentDir)+1:]
	if err := syscall.Mkfifo(part, 0o600); err != nil {
		t.Fatal(err)
	}
	f.mustInstall(PullIfNotPresent, "1.0.0")
}
