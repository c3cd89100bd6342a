package oci

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/upgradetest"
)

// lay puts files, by their path in a repository, where location says, though
// they are no repository: what TestSource of package upgradetest asks for. A
// path with a digest must have that of its content.
func lay(t *testing.T, location string, files map[string][]byte) *Source {
	t.Helper()
	src := source(t, Config{Location: location})
	to, ok := src.back.(target)
	if !ok {
		t.Fatalf("%s cannot be written", src)
	}
	if l, ok := to.(*layout); ok {
		unlock, err := l.lock()
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := unlock(); err != nil {
				t.Error(err)
			}
		}()
	}
	put := func(d ocispec.Descriptor, data []byte) {
		if err := to.putBlob(t.Context(), d, inMemory(data)); err != nil {
			t.Fatal(err)
		}
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: ArtifactFiles, Config: ocispec.DescriptorEmptyJSON,
	}
	put(m.Config, m.Config.Data)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		d := descriptor(MediaTypeFile, digestOf(files[path]), int64(len(files[path])))
		put(d, files[path])
		if _, ok := addressed(path); !ok {
			d.Annotations = map[string]string{ocispec.AnnotationTitle: path}
			m.Layers = append(m.Layers, d)
		}
	}
	doc, err := newDocument(ocispec.MediaTypeImageManifest, ArtifactFiles, m)
	if err != nil {
		t.Fatal(err)
	}
	root, err := newDocument(ocispec.MediaTypeImageIndex, "", ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{doc.desc},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(to.putManifest(t.Context(), doc.desc, doc.raw, ""), to.putManifest(t.Context(), root.desc, root.raw, Tag))
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// It is not parallel: the suite counts goroutines.
func TestSourceKeepsTheContractOfAllSources(t *testing.T) {
	for _, p := range places() {
		t.Run(p.name, func(t *testing.T) {
			upgradetest.TestSource(t, func(t *testing.T, files map[string][]byte) release.Source {
				return lay(t, p.location(t), files)
			})
		})
	}
}

func TestEveryPathOfARepositoryIsRead(t *testing.T) {
	t.Parallel()
	data := content("1.0.0")
	hex := strings.TrimPrefix(digestOf(data), digestPrefix)
	files := map[string][]byte{
		indexPath: []byte("index"), "index.json.minisig": []byte("i"), "keyring.json": []byte("keyring"), "keyring.json.0123456789ABCDEF.minisig": []byte("k"),
		"indexes/sha256/" + hex + signatureSuffix:                              []byte("one state's"),
		manifestDir + hex + ".json":                                            data,
		manifestDir + hex + ".json" + signatureSuffix:                          []byte("m"),
		manifestDir + hex + ".json.0123456789ABCDEF.minisig":                   []byte("m of n"),
		"blobs/sha256/" + strings.TrimPrefix(digestOf(data[1:]), digestPrefix): data[1:],
	}
	for _, p := range places() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			src := lay(t, p.location(t), files)
			for path, want := range files {
				for _, offset := range []int64{0, int64(len(want)) - 1, int64(len(want))} {
					body, total, err := src.Open(t.Context(), path, offset)
					if err != nil {
						t.Errorf("%s from %d: %v", path, offset, err)
						continue
					}
					got, err := io.ReadAll(body)
					if err = errors.Join(err, body.Close()); err != nil || !bytes.Equal(got, want[offset:]) || total != int64(len(want)) {
						t.Errorf("%s from %d: %q of %d, %v", path, offset, got, total, err)
					}
				}
			}
		})
	}
}
