package oci

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/perennial-go/perennial/internal/boundedio"
	"github.com/perennial-go/perennial/upgrade/release"
)

var update = flag.Bool("update", false, "write golden files that are missing") //nolint:gochecknoglobals // a flag

func readGolden(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// golden compares got with a file that never changes once it is there.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if _, err := os.Stat(path); err != nil && *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := readGolden(t, name); string(want) != string(got) {
		t.Errorf("%s is now\n%s\nwant\n%s", name, got, want)
	}
}

// TestLayoutOfAnEarlierVersionIsRead reads a layout as it was written when
// the format was made, with an index, files and an image.
func TestLayoutOfAnEarlierVersionIsRead(t *testing.T) {
	src := source(t, Config{Location: schemeLayout + filepath.Join("testdata", "layout-1")})
	if *update {
		if _, err := os.Stat(filepath.Join("testdata", "layout-1")); err != nil {
			writeGoldenLayout(t)
		}
	}
	public, err := release.ParsePublicKey(readGolden(t, "release-1.pub"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := src.snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(raw.images) != 1 || len(raw.files) != 5 {
		t.Errorf("%d images and %d files, want 1 and 5", len(raw.images), len(raw.files))
	}
	var trust release.Trust
	trust.Keys = append(trust.Keys, public)
	read := func(path string) []byte {
		body, total, err := src.Open(t.Context(), path, 0)
		if err != nil {
			t.Fatal(err)
		}
		data, err := boundedio.ReadAll(body, total, maxFile)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	index := read(indexPath)
	if err := trust.Verify(index, read(indexPath+signatureSuffix)); err != nil {
		t.Error(err)
	}
	x, err := release.ParseIndex(index)
	if err != nil {
		t.Fatal(err)
	}
	path := manifestDir + x.Releases[0].Manifest + ".json"
	m, err := trust.VerifyManifest("agentd", "1.0.0", read(path), read(path+signatureSuffix))
	if err != nil {
		t.Fatal(err)
	}
	if got := read("blobs/sha256/" + m.Platforms[0].SHA256); string(got) != "binary 1.0.0\n" {
		t.Errorf("the binary is %q", got)
	}
}

func writeGoldenLayout(t *testing.T) {
	t.Helper()
	f := newFixture(t)
	bin := filepath.Join(t.TempDir(), "agentd")
	f.write(bin, []byte("binary 1.0.0\n"))
	if _, err := f.repository().Publish(t.Context(), release.Release{
		Name: "agentd", Version: "1.0.0", Binaries: []release.Binary{{OS: "linux", Arch: "amd64", Path: bin}},
	}); err != nil {
		t.Fatal(err)
	}
	f.push(PushConfig{Target: Config{Location: schemeLayout + filepath.Join("testdata", "layout-1")}})
	public, err := os.ReadFile(filepath.Join(f.key, release.PublicKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	f.write(filepath.Join("testdata", "release-1.pub"), public)
	if err := os.Remove(filepath.Join("testdata", "layout-1", layoutLock)); err != nil {
		t.Fatal(err)
	}
}
