package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perennial-go/perennial/internal/boundedio"
	"github.com/perennial-go/perennial/upgrade/release"
)

// file is a file of the directory that is not named by its digest.
type file struct {
	desc ocispec.Descriptor
	raw  []byte
}

// read takes in the state of the directory. A publisher may write to it
// meanwhile: the index is read once, and all that it leads to was there
// before it.
func (p *push) read(ctx context.Context) error {
	raw, err := p.readFile(ctx, indexPath)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w: give the directory that release build writes", release.ErrNotFound, err)
	}
	if err != nil {
		return err
	}
	if p.index, err = release.ParseIndex(raw); err != nil {
		if _, other := p.readFile(ctx, ocispec.ImageLayoutFile); other == nil {
			return fmt.Errorf("%s is an OCI image layout: give the directory that release build writes", p.dir)
		}
		return err
	}
	p.add(indexPath, raw)
	var kept []release.IndexEntry
	for _, e := range p.index.Releases {
		img, err := p.describe(ctx, e)
		if e.Yanked != "" && errors.Is(err, fs.ErrNotExist) {
			continue // nobody may want it any more
		}
		if err != nil {
			return fmt.Errorf("%s: %w", e.Version, err)
		}
		kept = append(kept, e)
		p.images = append(p.images, img)
	}
	p.index.Releases = kept
	if err := p.walk(ctx); err != nil {
		return err
	}
	p.total()
	return nil
}

// describe makes the image of a release, whose manifest must be the one that
// the index lists.
func (p *push) describe(ctx context.Context, e release.IndexEntry) (image, error) {
	raw, err := p.readFile(ctx, manifestDir+e.Manifest+".json")
	if err != nil {
		return image{}, err
	}
	if got := digestOf(raw); got != digestPrefix+e.Manifest {
		return image{}, fmt.Errorf("%w: the manifest is %s, the index lists sha256:%s: restore it from a backup", release.ErrDigest, got, e.Manifest)
	}
	m, err := release.ParseManifest(raw)
	if err != nil {
		return image{}, err
	}
	if m.Name != p.index.Name || m.Version != e.Version {
		return image{}, fmt.Errorf("the manifest is of %s %s, the index lists %s %s", m.Name, m.Version, p.index.Name, e.Version)
	}
	img, err := newImage(m, raw)
	if err != nil {
		return image{}, err
	}
	for _, d := range img.blobs {
		body, err := p.fromDirectory(ctx, d)()
		if err != nil {
			return image{}, err
		}
		if err := body.Close(); err != nil {
			return image{}, err
		}
	}
	return img, nil
}

// walk collects the files beside the blobs. Hidden ones are locks and what a
// publisher is about to write.
func (p *push) walk(ctx context.Context) error {
	return fs.WalkDir(os.DirFS(p.dir.String()), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			if errors.Is(err, fs.ErrNotExist) {
				return nil // pruned just now
			}
			return err
		case path == "." || path == indexPath:
			return nil
		case path == "blobs", strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		}
		raw, err := p.readFile(ctx, path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(p.files) >= maxFiles {
			return fmt.Errorf("%s holds more than %d files: begin a new repository", p.dir, maxFiles)
		}
		p.add(path, raw)
		return nil
	})
}

func (p *push) add(path string, raw []byte) {
	d := descriptor(MediaTypeFile, digestOf(raw), int64(len(raw)))
	if strings.HasPrefix(path, manifestDir) && strings.HasSuffix(path, ".json") {
		d.MediaType = MediaTypeManifest
	}
	d.Annotations = map[string]string{ocispec.AnnotationTitle: path}
	p.files = append(p.files, file{desc: d, raw: raw})
}

func (p *push) total() {
	seen := map[string]bool{}
	count := func(d ocispec.Descriptor) {
		if !seen[string(d.Digest)] {
			seen[string(d.Digest)] = true
			p.progress.Total += d.Size
		}
	}
	count(ocispec.DescriptorEmptyJSON)
	for _, f := range p.files {
		count(f.desc)
	}
	for _, img := range p.images {
		for _, d := range img.blobs {
			count(d)
		}
	}
}

func (p *push) readFile(ctx context.Context, path string) ([]byte, error) {
	body, total, err := p.dir.Open(ctx, path, 0)
	if err != nil {
		return nil, err
	}
	raw, err := boundedio.ReadAll(body, total, maxFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return raw, nil
}

// fromDirectory opens a blob, which must have the size that is signed. That
// its bytes are right is checked by who receives them.
func (p *push) fromDirectory(ctx context.Context, d ocispec.Descriptor) func() (io.ReadCloser, error) {
	path := "blobs/sha256/" + hexOf(d)
	if d.MediaType == MediaTypeManifest {
		path = manifestDir + hexOf(d) + ".json"
	}
	return func() (io.ReadCloser, error) {
		body, size, err := p.dir.Open(ctx, path, 0)
		if err != nil {
			return nil, err
		}
		if size != d.Size {
			err := fmt.Errorf("%w: %s has %d bytes, signed are %d: publish the release again", release.ErrDigest, path, size, d.Size)
			return nil, errors.Join(err, body.Close())
		}
		return body, nil
	}
}
