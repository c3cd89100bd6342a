package oci

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	orasoci "oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/perennial-go/perennial/internal/peertest"
	"github.com/perennial-go/perennial/upgrade/release"
)

// TestCopiesByOtherToolsKeepReleasesAndSignatures copies the one tag, with what refers to
// it, from our layout into one of oras, on into a registry, and back.
func TestCopiesByOtherToolsKeepReleasesAndSignatures(t *testing.T) {
	t.Parallel()
	address := peertest.Registry(t, t.TempDir(), "")
	key := newPrivateKey(t)
	dir, theirs, back := filepath.Join(t.TempDir(), "ours"), filepath.Join(t.TempDir(), "theirs"), filepath.Join(t.TempDir(), "back")
	f := newFixture(t)
	f.publish("1.0.0")
	pin := f.publish("1.1.0+build.5") // only the root leads to it
	pushed := f.push(PushConfig{Target: Config{Location: schemeLayout + dir}, Key: key})
	repo, err := remote.NewRepository(address + "/team/agentd")
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	stores := []oras.GraphTarget{}
	for _, path := range []string{dir, theirs, back} {
		store, err := orasoci.New(path)
		if err != nil {
			t.Fatal(err)
		}
		stores = append(stores, store)
	}
	chain := []oras.GraphTarget{stores[0], stores[1], repo, stores[2]}
	for i := range chain[1:] {
		if _, err := oras.Copy(t.Context(), chain[i], Tag, chain[i+1], Tag, oras.DefaultCopyOptions); err != nil {
			t.Fatalf("copy %d: %v", i, err)
		}
		for _, r := range pushed.Releases {
			// The signature refers to the image, which the tag leads to.
			if err := oras.ExtendedCopyGraph(t.Context(), chain[i], chain[i+1], descriptorOf(t, chain[i], r.Image), oras.DefaultExtendedCopyGraphOptions); err != nil {
				t.Fatalf("copy %d of %s: %v", i, r.Version, err)
			}
		}
	}
	for _, location := range []string{schemeLayout + theirs, schemeRegistry + address + "/team/agentd", schemeLayout + back} {
		src := source(t, Config{Location: location})
		if got, err := f.fetch(src, pin); err != nil || !bytes.Equal(got, content(pin.Version)) {
			t.Errorf("%s: %d bytes, %v", location, len(got), err)
		}
		if err := f.required(t, CosignConfig{Source: src, Key: key.Public()}, pin); err != nil {
			t.Errorf("%s: signature: %v", location, err)
		}
	}
}

func descriptorOf(t *testing.T, from oras.GraphTarget, digest string) ocispec.Descriptor {
	t.Helper()
	d, err := from.Resolve(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestImageSaysWhatTheReleaseIs(t *testing.T) {
	f := newFixture(t)
	pin := f.publish("1.0.0")
	dir := filepath.Join(t.TempDir(), "layout")
	pushed := f.push(PushConfig{Target: Config{Location: schemeLayout + dir}})
	store, err := orasoci.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	d, raw, err := oras.FetchBytes(t.Context(), store, "1.0.0", oras.DefaultFetchBytesOptions)
	if err != nil {
		t.Fatal(err)
	}
	var x ocispec.Index
	if err := json.Unmarshal(raw, &x); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		ocispec.AnnotationTitle: "agentd", ocispec.AnnotationVersion: "1.0.0", ocispec.AnnotationRevision: "0123abc",
		ocispec.AnnotationCreated: "2030-01-02T03:04:05Z", ocispec.AnnotationSource: "https://example.com/agentd",
		AnnotationManifest: pin.Digest,
	}
	if len(x.Annotations) != len(want) {
		t.Errorf("annotations %v, want %v", x.Annotations, want)
	}
	for name, value := range want {
		if x.Annotations[name] != value {
			t.Errorf("%s is %q, want %q", name, x.Annotations[name], value)
		}
	}
	if string(d.Digest) != pushed.Releases[0].Image || len(x.Manifests) != 2 {
		t.Errorf("%s with %d platforms, want %s with 2", d.Digest, len(x.Manifests), pushed.Releases[0].Image)
	}
	// As oras pull --platform would.
	options := oras.DefaultFetchBytesOptions
	options.TargetPlatform = &ocispec.Platform{OS: "plan9", Architecture: "mips"}
	_, raw, err = oras.FetchBytes(t.Context(), store, "1.0.0", options)
	if err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	if string(m.Config.Digest) != pin.Digest || len(m.Layers) != 1 || m.Layers[0].Size != int64(len(content("1.0.0"))+5) || m.Layers[0].Annotations[ocispec.AnnotationTitle] != "agentd" {
		t.Errorf("platform %s", raw)
	}
}

// TestSameReleaseHasTheSameImageInEveryVersion guards signatures: they are of these bytes,
// which a later version of this package must make again.
func TestSameReleaseHasTheSameImageInEveryVersion(t *testing.T) {
	hex := func(c string) string { return strings.Repeat(c, 64) }
	m, err := release.ParseManifest(readGolden(t, "manifest-1.json"))
	if err != nil {
		t.Fatal(err)
	}
	img, err := newImage(m, readGolden(t, "manifest-1.json"))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "image-index-1.json", img.index.raw)
	golden(t, "image-linux-amd64-1.json", img.platforms[0].raw)
	if len(img.blobs) != 5 || string(img.blobs[3].Digest) != digestPrefix+hex("d") {
		t.Errorf("blobs %v, want manifest, two binaries, an encoding and a delta", img.blobs)
	}
}
