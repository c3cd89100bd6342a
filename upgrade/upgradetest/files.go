package upgradetest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/perennial-go/perennial/upgrade/release"
)

// largeSize is more than any buffer on the way holds.
const largeSize = 2<<20 + 17

// empty is the path of an empty file.
var emptyPath = blobPath(nil) //nolint:gochecknoglobals // a constant that Go cannot compute

func blobPath(data []byte) string {
	sum := sha256.Sum256(data)
	return "blobs/sha256/" + hex.EncodeToString(sum[:])
}

// repository returns the files of a signed repository with one release per
// version, by their paths.
func repository(t *testing.T, key string, dir string, versions ...string) map[string][]byte {
	t.Helper()
	private, err := release.LoadPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	r, err := release.NewRepository(release.RepositoryConfig{Dir: dir, Key: private})
	if err != nil {
		t.Fatal(err)
	}
	for i, version := range versions {
		binary := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(binary, noise(byte(i), largeSize), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := r.Publish(context.WithoutCancel(t.Context()), release.Release{
			Name: "program", Version: version, Binaries: []release.Binary{{Path: binary, OS: "linux", Arch: "amd64"}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return readTree(t, dir)
}

func generateKey(t *testing.T) (path string) {
	t.Helper()
	dir := t.TempDir()
	if _, err := release.GenerateKey(dir); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, release.PrivateKeyFile)
}

func readTree(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	tree := os.DirFS(dir)
	err := fs.WalkDir(tree, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path == ".lock" {
			return err
		}
		files[path], err = fs.ReadFile(tree, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// noise returns the same bytes for the same seed, and never a run of them
// twice: a file that is put together wrongly is another file.
func noise(seed byte, size int) []byte {
	var key [32]byte
	key[0] = seed
	data := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(data) // documented never to fail
	return data
}

// WriteFiles puts files, by their paths in a repository, into dir. Each is
// replaced by a rename.
func WriteFiles(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for path, data := range files {
		path = filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // other users' web servers read it
			t.Fatal(err)
		}
		if err := os.WriteFile(path+".new", data, 0o644); err != nil { //nolint:gosec // other users' web servers read it
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
}
