package oci

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perennial-go/perennial/upgrade/release"
)

// document is a manifest ready to be written.
type document struct {
	desc ocispec.Descriptor
	raw  []byte
}

func newDocument(mediaType, artifactType string, v any) (document, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return document{}, err
	}
	if len(raw) > maxManifest {
		return document{}, fmt.Errorf("OCI manifest has %d bytes, registries take %d: begin a new repository", len(raw), maxManifest)
	}
	d := descriptor(mediaType, digestOf(raw), int64(len(raw)))
	d.ArtifactType = artifactType
	return document{desc: d, raw: raw}, nil
}

func descriptor(mediaType, sha256 string, size int64) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.Digest(sha256), Size: size}
}

// image is a release as registries and container tools see it.
type image struct {
	index     document
	platforms []document
	// blobs are what the platforms refer to, the signed manifest first.
	blobs []ocispec.Descriptor
}

// newImage describes the release whose signed manifest is raw. The same
// manifest gives the same bytes: they are what cosign signs.
func newImage(m *release.Manifest, raw []byte) (image, error) {
	config := descriptor(MediaTypeManifest, digestOf(raw), int64(len(raw)))
	img := image{blobs: []ocispec.Descriptor{config}}
	annotations := annotate(m, string(config.Digest))
	index := ocispec.Index{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   ocispec.MediaTypeImageIndex,
		Annotations: annotations,
	}
	for _, p := range m.Platforms {
		layers := layersOf(m.Name, p)
		img.blobs = append(img.blobs, layers...)
		doc, err := newDocument(ocispec.MediaTypeImageManifest, "", ocispec.Manifest{
			Versioned:   specs.Versioned{SchemaVersion: 2},
			MediaType:   ocispec.MediaTypeImageManifest,
			Config:      config,
			Layers:      layers,
			Annotations: annotations,
		})
		if err != nil {
			return image{}, err
		}
		img.platforms = append(img.platforms, doc)
		d := doc.desc
		d.Platform = &ocispec.Platform{OS: p.OS, Architecture: p.Arch}
		index.Manifests = append(index.Manifests, d)
	}
	var err error
	img.index, err = newDocument(ocispec.MediaTypeImageIndex, "", index)
	return img, err
}

func layersOf(name string, p release.Platform) []ocispec.Descriptor {
	binary := descriptor(MediaTypeBinary, digestPrefix+p.SHA256, p.Size)
	binary.Annotations = map[string]string{ocispec.AnnotationTitle: name}
	layers := []ocispec.Descriptor{binary}
	add := func(e release.Encoding, from string) {
		d := descriptor(MediaTypeEncoding, digestPrefix+e.SHA256, e.Size)
		d.Annotations = map[string]string{AnnotationFormat: e.Format}
		if from != "" {
			d.Annotations[AnnotationFrom] = digestPrefix + from
		}
		layers = append(layers, d)
	}
	for _, e := range p.Encodings {
		add(e, "")
	}
	for _, d := range p.Deltas {
		add(d.Encoding, d.From)
	}
	return layers
}

// annotate says in the standard words what the release is. The author's own
// annotations with such names go along, but do not replace what is signed.
func annotate(m *release.Manifest, manifest string) map[string]string {
	a := map[string]string{}
	for name, value := range m.Annotations {
		if strings.HasPrefix(name, "org.opencontainers.image.") {
			a[name] = value
		}
	}
	a[ocispec.AnnotationTitle] = m.Name
	a[ocispec.AnnotationVersion] = m.Version
	a[ocispec.AnnotationCreated] = m.Created.UTC().Format(time.RFC3339)
	if m.Revision != "" {
		a[ocispec.AnnotationRevision] = m.Revision
	}
	a[AnnotationManifest] = manifest
	return a
}

// identity is what a signature of the image is compared with.
func identity(name, version, manifest string) map[string]string {
	return map[string]string{
		ocispec.AnnotationTitle:   name,
		ocispec.AnnotationVersion: version,
		AnnotationManifest:        manifest,
	}
}
