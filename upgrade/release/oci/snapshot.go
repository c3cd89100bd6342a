package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perennial-go/perennial/internal/boundedio"
	"github.com/perennial-go/perennial/internal/strictjson"
	"github.com/perennial-go/perennial/upgrade/release"
)

// Tag is the tag that leads to the repository's files. It moves.
const Tag = "perennial"

// Media types and annotations of this package.
const (
	// ArtifactFiles is the type of the artifact whose layers are the files.
	ArtifactFiles = "application/vnd.dev.perennial.files.v1"
	// MediaTypeFile is a file of the repository.
	MediaTypeFile = "application/vnd.dev.perennial.file.v1"
	// MediaTypeManifest is a signed manifest of package release.
	MediaTypeManifest = "application/vnd.dev.perennial.manifest.v1+json"
	// MediaTypeBinary is an executable.
	MediaTypeBinary = "application/vnd.dev.perennial.binary.v1"
	// MediaTypeEncoding is a smaller form of one, or a delta to it.
	MediaTypeEncoding = "application/vnd.dev.perennial.encoding.v1"

	// AnnotationManifest is the digest of a release's signed manifest.
	AnnotationManifest = "dev.perennial.manifest"
	// AnnotationFormat is the format of an encoding or delta.
	AnnotationFormat = "dev.perennial.format"
	// AnnotationFrom is the digest of the binary that a delta is from.
	AnnotationFrom = "dev.perennial.from"
)

// Bounds of what a registry may answer.
const (
	maxManifest   = 4 << 20 // what registries take
	maxFile       = release.MaxIndexSize
	maxTitle      = 512
	maxFiles      = 1 << 14
	manifestDepth = 8
)

const (
	manifestDir     = "manifests/sha256/"
	indexPath       = "index.json"
	signatureSuffix = ".minisig"
)

// snapshot is the repository as it was when the tag was followed.
type snapshot struct {
	files map[string]ocispec.Descriptor
	// images are the image indexes of the releases by the digest of their
	// signed manifest. They are hints: nobody has signed them.
	images map[string]ocispec.Descriptor
}

// readSnapshot follows the tag. Its error is a damagedError if there is a tag,
// and what it leads to is not there or not what it must be.
func readSnapshot(ctx context.Context, b backend) (*snapshot, error) {
	raw, err := b.manifest(ctx, Tag)
	if err != nil {
		return nil, fmt.Errorf("tag %s: %w", Tag, asDamage(err))
	}
	s, files, err := parseRoot(raw)
	if err != nil {
		return nil, fmt.Errorf("tag %s: %w", Tag, damagedError{err})
	}
	raw, err = pinned(ctx, b, files)
	if err != nil {
		return nil, fmt.Errorf("tag %s: its files: %w", Tag, absentIsDamage(err))
	}
	s.files, err = parseFiles(raw)
	return s, err
}

// parseRoot reads what is under the tag. It returns the artifact of the files
// beside a snapshot without them.
func parseRoot(raw []byte) (s *snapshot, files ocispec.Descriptor, err error) {
	root, err := parseIndex(raw)
	if err != nil {
		return nil, files, err
	}
	s = &snapshot{images: map[string]ocispec.Descriptor{}}
	found := false
	for _, d := range root.Manifests {
		switch {
		case d.ArtifactType == ArtifactFiles && found:
			return nil, files, errors.New("it lists the files twice: push the repository again")
		case d.ArtifactType == ArtifactFiles:
			files, found = d, true
		case d.MediaType == ocispec.MediaTypeImageIndex:
			s.images[d.Annotations[AnnotationManifest]] = d
		}
	}
	if !found {
		return nil, files, fmt.Errorf("it lists no artifact of type %s: it is no repository, or damaged", ArtifactFiles)
	}
	return s, files, nil
}

// parseFiles reads the artifact whose layers are the files of a repository.
func parseFiles(raw []byte) (map[string]ocispec.Descriptor, error) {
	var m ocispec.Manifest
	if err := decode(raw, &m); err != nil {
		return nil, err
	}
	if m.ArtifactType != ArtifactFiles || len(m.Layers) > maxFiles {
		return nil, fmt.Errorf("artifact of type %.80q with %d layers, want %s with at most %d", m.ArtifactType, len(m.Layers), ArtifactFiles, maxFiles)
	}
	files := make(map[string]ocispec.Descriptor, len(m.Layers))
	for _, layer := range m.Layers {
		title := layer.Annotations[ocispec.AnnotationTitle]
		if err := checkPath(title); err != nil {
			return nil, fmt.Errorf("layer %s: title: %w", layer.Digest, err)
		}
		if _, twice := files[title]; twice {
			return nil, fmt.Errorf("two layers have the title %q", title)
		}
		if err := checkDescriptor(layer, maxFile); err != nil {
			return nil, fmt.Errorf("layer %s: %w", title, err)
		}
		files[title] = layer
	}
	return files, nil
}

func parseIndex(raw []byte) (*ocispec.Index, error) {
	var x ocispec.Index
	if err := decode(raw, &x); err != nil {
		return nil, err
	}
	if x.MediaType != ocispec.MediaTypeImageIndex || len(x.Manifests) > maxFiles {
		return nil, fmt.Errorf("manifest of type %.80q with %d entries, want %s with at most %d", x.MediaType, len(x.Manifests), ocispec.MediaTypeImageIndex, maxFiles)
	}
	for _, d := range x.Manifests {
		if err := checkDescriptor(d, maxManifest); err != nil {
			return nil, err
		}
	}
	return &x, nil
}

// decode reads a manifest that has one meaning only.
func decode(raw []byte, v any) error {
	if len(raw) > maxManifest {
		return fmt.Errorf("OCI manifest has %d bytes, at most %d are read", len(raw), maxManifest)
	}
	if err := strictjson.Check(raw, manifestDepth); err != nil {
		return fmt.Errorf("OCI manifest: %w", err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("OCI manifest: %w", err)
	}
	return nil
}

func checkDescriptor(d ocispec.Descriptor, limit int64) error {
	if !validDigest(string(d.Digest)) {
		return fmt.Errorf("digest %.100q: want sha256: and 64 lower-case hexadecimal digits", d.Digest)
	}
	if d.Size < 0 || d.Size > limit {
		return fmt.Errorf("%s has %d bytes, at most %d are read", d.Digest, d.Size, limit)
	}
	return nil
}

func hexOf(d ocispec.Descriptor) string { return strings.TrimPrefix(string(d.Digest), digestPrefix) }

func digestOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return digestPrefix + hex.EncodeToString(sum[:])
}

// pinned reads a manifest by its digest, and nothing else for it.
func pinned(ctx context.Context, b backend, d ocispec.Descriptor) ([]byte, error) {
	raw, err := b.manifest(ctx, string(d.Digest))
	if err != nil {
		return nil, err
	}
	return raw, matches(raw, d, b)
}

// small reads a whole blob that its descriptor says is small.
func small(ctx context.Context, b backend, d ocispec.Descriptor, limit int64) ([]byte, error) {
	if err := checkDescriptor(d, limit); err != nil {
		return nil, err
	}
	body, total, err := b.blob(ctx, hexOf(d), 0)
	if err != nil {
		return nil, err
	}
	raw, err := boundedio.ReadAll(body, total, d.Size)
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w", d.Digest, b, err)
	}
	return raw, matches(raw, d, b)
}

func matches(raw []byte, d ocispec.Descriptor, b backend) error {
	if got := digestOf(raw); got != string(d.Digest) || int64(len(raw)) != d.Size {
		return fmt.Errorf("%w: %s was asked for %s of %d bytes and answered %s of %d bytes: the registry is damaged or altered", release.ErrDigest, b, d.Digest, d.Size, got, len(raw))
	}
	return nil
}
