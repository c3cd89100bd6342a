package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perennial-go/perennial/internal/boundedio"
	"github.com/perennial-go/perennial/upgrade/release"
)

// layout is an OCI image layout directory. It is read as package release
// reads a directory: no link leads out of it, and only regular files count.
type layout struct {
	path string
	dir  *release.Dir
}

func newLayout(path string) (*layout, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("OCI layout: %w", err)
	}
	dir, err := release.NewDir(abs)
	if err != nil {
		return nil, err
	}
	return &layout{path: abs, dir: dir}, nil
}

func (l *layout) String() string { return schemeLayout + l.path }

func (l *layout) repository() string { return "" }

func (l *layout) blob(ctx context.Context, hex string, offset int64) (io.ReadCloser, int64, error) {
	return l.dir.Open(ctx, "blobs/sha256/"+hex, offset)
}

func (l *layout) manifest(ctx context.Context, reference string) ([]byte, error) {
	digest := reference
	if !validDigest(reference) {
		x, err := l.index(ctx)
		if err != nil {
			return nil, err
		}
		d, ok := tagged(x, reference)
		if !ok {
			return nil, fmt.Errorf("%s has no tag %s: %w", l, reference, fs.ErrNotExist)
		}
		digest = string(d.Digest)
		if !validDigest(digest) {
			return nil, fmt.Errorf("%s of %s: tag %s: %w", ocispec.ImageIndexFile, l, reference, damagedError{fmt.Errorf("digest %.100q: want sha256: and 64 lower-case hexadecimal digits", digest)})
		}
	}
	body, total, err := l.blob(ctx, digest[len(digestPrefix):], 0)
	if err != nil {
		return nil, err
	}
	raw, err := boundedio.ReadAll(body, total, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w", digest, l, err)
	}
	return raw, nil
}

func tagged(x *ocispec.Index, tag string) (ocispec.Descriptor, bool) {
	for _, d := range x.Manifests {
		if d.Annotations[ocispec.AnnotationRefName] == tag {
			return d, true
		}
	}
	return ocispec.Descriptor{}, false
}

// index reads the layout's own index.json; without one it is empty. It may list
// what other tools put there, by digests that this package does not take.
func (l *layout) index(ctx context.Context) (*ocispec.Index, error) {
	body, total, err := l.dir.Open(ctx, ocispec.ImageIndexFile, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if _, statErr := os.Stat(l.path); statErr != nil {
			return nil, fmt.Errorf("OCI layout: %w", statErr)
		}
		return &ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}, nil
	}
	if err != nil {
		return nil, err
	}
	raw, err := boundedio.ReadAll(body, total, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", ocispec.ImageIndexFile, l, err)
	}
	var x ocispec.Index
	if err := decode(raw, &x); err != nil {
		return nil, fmt.Errorf("%s of %s: %w", ocispec.ImageIndexFile, l, err)
	}
	return &x, nil
}

// referrers looks at the manifests that the layout's index lists: that is
// where copying tools put what nothing else leads to. What is not there as it is
// listed refers to nothing: it may be another tool's.
func (l *layout) referrers(ctx context.Context, digest string) ([]ocispec.Descriptor, error) {
	x, err := l.index(ctx)
	if err != nil {
		return nil, err
	}
	var found []ocispec.Descriptor
	for _, d := range x.Manifests {
		if d.MediaType != ocispec.MediaTypeImageManifest || d.Size > maxSignatureManifest {
			continue
		}
		raw, err := pinned(ctx, l, d)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, release.ErrDigest) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var m ocispec.Manifest
		if err := decode(raw, &m); err != nil {
			continue // of another tool
		}
		if m.Subject != nil && string(m.Subject.Digest) == digest {
			found = append(found, d)
		}
	}
	return found, nil
}
