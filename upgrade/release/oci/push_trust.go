package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perennial-go/perennial/upgrade/release"
)

// checkTrust makes sure that what is about to be sent, and signed, is what the
// release keys have signed: whoever can write to the directory could otherwise
// have anything signed. Without a cosign key, releases whose key counts no more,
// or is not among those given, are told and pushed: the index is signed and
// lists them, hosts refuse them by themselves, and a publisher who has changed
// keys has some.
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
		advice := "build it again with a key that counts"
		if errors.Is(err, release.ErrUntrusted) && !errors.Is(err, release.ErrRevoked) {
			advice, err = p.byStranger(ctx, e, err)
		}
		if err == nil {
			continue
		}
		if advice == "" {
			return err
		}
		if p.cfg.Key != nil {
			return fmt.Errorf("%w: %s, or yank %s", err, advice, e.Version)
		}
		p.refused[e.Version] = err.Error()
	}
	return nil
}

// byStranger returns what to do, and an error that tells the keys, if the
// manifest of e is refused because its signature is by a key that is not among
// the trusted ones; else refused as it is, without advice.
func (p *push) byStranger(ctx context.Context, e release.IndexEntry, refused error) (advice string, told error) {
	raw, _ := p.fileAt(manifestDir + e.Manifest + ".json" + signatureSuffix)
	signer, err := release.ReadSigner(raw)
	if err != nil {
		return "", refused // it is not signed
	}
	var trusted []string
	advice = "trust that key as well, if it is the publisher's (release build --extend its public key, release push with both keys in the file of --trust)"
	for _, key := range p.cfg.Trust.Keys {
		trusted = append(trusted, release.KeyID(key))
	}
	if len(p.cfg.Trust.Roots) > 0 {
		k, err := p.client.Keyring(ctx)
		if err != nil {
			return "", errors.Join(refused, err)
		}
		for _, key := range k.Keys {
			trusted = append(trusted, key.ID())
		}
		advice = "have the roots add that key to the keyring"
	}
	if slices.Contains(trusted, signer.Key) {
		return "", refused // the signature is not of this
	}
	return advice, fmt.Errorf("%w: %s is signed by key %s, trusted are %s", release.ErrUntrusted, e.Version, signer.Key, strings.Join(trusted, ", "))
}

// fileAt returns a file of the directory as it was read.
func (p *push) fileAt(path string) (raw []byte, ok bool) {
	for _, f := range p.files {
		if f.desc.Annotations[ocispec.AnnotationTitle] == path {
			return f.raw, true
		}
	}
	return nil, false
}

// readFiles is the state of the directory that was read, as a source: nothing that
// changes there afterwards is verified in place of what is sent.
type readFiles struct{ push *push }

// String names the directory.
func (r readFiles) String() string { return r.push.dir.String() }

// Open implements release.Source.
func (r readFiles) Open(_ context.Context, path string, offset int64) (io.ReadCloser, int64, error) {
	raw, ok := r.push.fileAt(path)
	if !ok {
		return nil, 0, fmt.Errorf("%s in %s: %w", path, r, fs.ErrNotExist)
	}
	size := int64(len(raw))
	return io.NopCloser(bytes.NewReader(raw[min(max(offset, 0), size):])), size, nil
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
