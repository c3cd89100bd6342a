package release

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// onSmallDisk has the host of f on a file system of 4 MiB with keep bytes
// free.
func (f *forms) onSmallDisk(t *testing.T, keep int64) (dir string) {
	t.Helper()
	dir = smallDisk(t)
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT, "size=4m"); err != nil {
		t.Skipf("a file system cannot be made larger here: %v", err)
	}
	f.dst = filepath.Join(dir, "agent")
	fill(t, dir, keep)
	return dir
}

// The plain binary needs the least room of all forms but deltas.
func TestDiskWithRoomForTheBinaryAloneTakesItPlain(t *testing.T) {
	f := newForms(t)
	m := f.publish(1)
	dir := f.onSmallDisk(t, m.Platforms[0].Size+100<<10)
	got, err := f.client(0).Fetch(t.Context(), m, f.dst, FetchOptions{})
	if err != nil || got.Form != FormatPlain || len(got.Passed) != 1 || !errors.Is(got.Passed[0], ErrNoSpace) || got.Bytes != m.Platforms[0].Size {
		t.Fatalf("%+v, %v; want plain at once, and not enough space for zstd", got, err)
	}
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	f.wantOnly(1)
}

// Whatever is being written when the disk fills up, all of it is given back.
func TestDiskThatFillsUpUnderASmallerFormIsGivenBack(t *testing.T) {
	for name, c := range map[string]struct {
		running int
		at      func(FetchProgress) bool
	}{
		"while zstd arrives":     {-1, func(p FetchProgress) bool { return p.Form == FormatZstd && p.Done > 0 }},
		"while zstd is decoded":  {-1, func(p FetchProgress) bool { return p.Form == FormatZstd && p.Done == p.Total }},
		"while a delta is made":  {0, func(p FetchProgress) bool { return p.Done == p.Total }},
		"while the plain begins": {5, func(p FetchProgress) bool { return p.Form == FormatZstd && p.Done == p.Total }},
	} {
		t.Run(name, func(t *testing.T) {
			f := newForms(t)
			f.publish(0)
			m := f.publish(1)
			opts := FetchOptions{}
			if c.running >= 0 {
				opts.Old = f.old(c.running)
			}
			dir := f.onSmallDisk(t, 3<<20)
			filled := false
			opts.Progress = func(p FetchProgress) {
				if !filled && c.at(p) {
					filled = true
					if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
						t.Error(err)
					}
					fill(t, dir, 0)
				}
			}
			got, err := f.client(0).Fetch(t.Context(), m, f.dst, opts)
			if !errors.Is(err, ErrNoSpace) || len(got.Passed) == 0 || !errors.Is(got.Passed[0], syscall.ENOSPC) {
				t.Errorf("passed %v, error %v; want the disk to be full", got.Passed, err)
			}
			f.wantFiles("ballast")
			if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
				t.Fatal(err)
			}
			if _, err := f.client(0).Fetch(t.Context(), m, f.dst, opts); err != nil {
				t.Errorf("after space was made: %v", err)
			}
			f.wantOnly(1)
		})
	}
}

func TestReadOnlyDiskIsToldAndNothingIsDownloaded(t *testing.T) {
	f := newForms(t)
	m := f.publish(1)
	dir := f.onSmallDisk(t, 2<<20)
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("a file system cannot be made read-only here: %v", err)
	}
	got, err := f.client(0).Fetch(t.Context(), m, f.dst, FetchOptions{})
	if !errors.Is(err, syscall.EROFS) || got.Bytes != 0 || len(f.src.offsets) > 0 {
		t.Errorf("%+v, %v after opening %v; want a read-only file system before", got, err, f.src.offsets)
	}
	f.wantFiles("ballast")
}
