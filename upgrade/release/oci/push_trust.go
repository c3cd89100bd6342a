package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perennial-go/perennial/upgrade/release"
)

// checkTrust makes sure that what is about to be sent, and signed, is what the
// release keys have signed: whoever can write to the directory could otherwise
// have anything signed.
func (p *push) checkTrust(ctx context.Context) error {
	if p.client == nil {
		return nil
	}
	if _, err := p.client.Index(ctx); err != nil {
		return err
	}
	for _, e := range p.index.Releases {
		if e.Yanked != "" {
			continue // nobody takes it, and it is not signed
		}
		_, _, _, err := p.client.Manifest(ctx, e.Pin())
		if errors.Is(err, release.ErrRevoked) {
			if p.cfg.Key == nil {
				continue // hosts refuse it; the revocation must get to them
			}
			err = fmt.Errorf("%w: build %s again with a key that counts, or yank it", err, e.Version)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readFiles is the state of the directory that was read, as a source: nothing that
// changes there afterwards is verified in place of what is sent.
type readFiles struct{ push *push }

// String names the directory.
func (r readFiles) String() string { return r.push.dir.String() }

// Open implements release.Source.
func (r readFiles) Open(_ context.Context, path string, offset int64) (io.ReadCloser, int64, error) {
	for _, f := range r.push.files {
		if f.desc.Annotations[ocispec.AnnotationTitle] == path {
			size := int64(len(f.raw))
			return io.NopCloser(bytes.NewReader(f.raw[min(max(offset, 0), size):])), size, nil
		}
	}
	return nil, 0, fmt.Errorf("%s in %s: %w", path, r, fs.ErrNotExist)
}

// newClient returns what verifies the directory; nil where nothing is to be
// verified.
func (p *push) newClient() (*release.Client, error) {
	if p.cfg.Key == nil && len(p.cfg.Trust.Keys)+len(p.cfg.Trust.Roots) == 0 {
		return nil, nil //nolint:nilnil // documented
	}
	c, err := release.NewClient(release.ClientConfig{Source: readFiles{p}, Trust: p.cfg.Trust, Name: p.cfg.Name})
	if err != nil {
		return nil, fmt.Errorf("what is signed for cosign, the release keys must have signed: %w", err)
	}
	return c, nil
}
