package release

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/perennial-go/perennial/internal/disk"
)

// smallDisk mounts a file system of 1 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a full disk needs a mount of its own, and mounting needs root: run the tests as root for this one")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("a full disk needs a mount of its own, and this environment forbids it: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes all but keep bytes of the disk.
func fill(t *testing.T, dir string, keep int64) {
	t.Helper()
	free, err := disk.Free(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, free-keep), 0o600); err != nil {
		t.Fatal(err)
	}
}

func assertNothingLeft(t *testing.T, dir, prefix string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), prefix) {
			t.Errorf("%s is left on the full disk", e.Name())
		}
	}
}

func TestDownloadToAFullDiskIsRefusedBeforeItStarts(t *testing.T) {
	f, src, m, _ := fetchFixture(t)
	disk := smallDisk(t)
	fill(t, disk, 100<<10)
	_, err := f.clientOf(src).Fetch(t.Context(), m, filepath.Join(disk, "agent"), FetchOptions{})
	if !errors.Is(err, ErrNoSpace) || len(src.offsets) != 0 {
		t.Fatalf("error %v after opening %v, want ErrNoSpace before", err, src.offsets)
	}
	for _, part := range []string{"520000 bytes are needed", disk, "102400 are free"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	assertNothingLeft(t, disk, "agent")
}

func TestDiskThatFillsUpDuringDownloadIsGivenBack(t *testing.T) {
	f, src, m, _ := fetchFixture(t)
	disk := smallDisk(t)
	filled := false
	_, err := f.clientOf(src).Fetch(t.Context(), m, filepath.Join(disk, "agent"), FetchOptions{Progress: func(p FetchProgress) {
		if p.Done > 0 && !filled {
			filled = true
			fill(t, disk, 0)
		}
	}})
	if !errors.Is(err, ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v, want ErrNoSpace", err)
	}
	assertNothingLeft(t, disk, "agent")
	if err := os.Remove(filepath.Join(disk, "ballast")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.clientOf(src).Fetch(t.Context(), m, filepath.Join(disk, "agent"), FetchOptions{}); err != nil {
		t.Errorf("after space was made: %v", err)
	}
}

func TestFullDiskUnderTrustStateStopsTheUpgrade(t *testing.T) {
	f := newFixture(t)
	f.publish("1.0.0")
	disk := smallDisk(t)
	f.state = filepath.Join(disk, "trust.json")
	fill(t, disk, 0)
	if _, err := f.client().Index(t.Context()); !errors.Is(err, ErrNoSpace) {
		t.Errorf("error %v, want ErrNoSpace", err)
	}
	if err := os.Remove(f.state + ".lock"); err != nil { // empty, and there for good
		t.Error(err)
	}
	assertNothingLeft(t, disk, "trust")
}

func TestPublishToAFullDiskLeavesAReadableRepository(t *testing.T) {
	f := newFixture(t)
	f.dir = smallDisk(t)
	f.publish("1.0.0")
	if _, err := f.repository(1).Publish(t.Context(), f.release("1.1.0")); !errors.Is(err, ErrNoSpace) {
		t.Errorf("error %v, want ErrNoSpace", err)
	}
	if _, err := f.install(t.Context(), f.client(), "1.0.0"); err != nil {
		t.Errorf("the release that was there: %v", err)
	}
	if entries, err := os.ReadDir(f.path("blobs", "sha256")); err != nil || len(entries) != 1 {
		t.Errorf("blobs are %v (%v), want the one of 1.0.0", entries, err)
	}
}
