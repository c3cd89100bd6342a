package oci

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/perennial-go/perennial/internal/boundedio"
	"github.com/perennial-go/perennial/upgrade/release"
)

// intact reads a blob and reports whether it is what its digest says. One that
// is not there is not.
func intact(ctx context.Context, b backend, d ocispec.Descriptor) (ok bool, err error) {
	body, total, err := b.blob(ctx, hexOf(d), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	if total >= 0 && total != d.Size {
		return false, nil
	}
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(body, d.Size+1))
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, err
	}
	return n == d.Size && digestPrefix+hex.EncodeToString(sum.Sum(nil)) == string(d.Digest), nil
}

// put writes a blob, and looks whether that has mended one that was damaged.
func (p *push) put(ctx context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error), damaged bool) error {
	if err := p.target.putBlob(ctx, d, open); err != nil || !damaged {
		return err
	}
	ok, err := intact(ctx, p.target, d)
	if err == nil && !ok {
		return p.stays(d)
	}
	if err == nil {
		p.result.Repaired++
	}
	return err
}

// stays is the error of a piece that is damaged after it was sent, too. The
// distribution project's registry never writes over what it has under a digest,
// and a DELETE takes away no more than the repository's link to it.
func (p *push) stays(d ocispec.Descriptor) error {
	hex := hexOf(d)
	return fmt.Errorf("%w: %w: %s took %s and goes on serving other bytes for it, as a registry does that never replaces what it has under a digest: remove it from the registry's storage (docker/registry/v2/blobs/sha256/%s/%s/data in that of distribution), then repair again", release.ErrDigest, errStays, p.target, d.Digest, hex[:2], hex)
}

// errStays is what keepDamage collects.
var errStays = errors.New("the damage stays")

// keepDamage puts damage aside that sending anew did not mend: the other pieces
// are sent, and the push ends with all of it.
func (p *push) keepDamage(err error) error {
	if errors.Is(err, errStays) {
		p.damaged = append(p.damaged, err)
		return nil
	}
	return err
}

// damagedError is of what is there and is not what it must be, in contrast to
// what could not be asked for, and to what is whole and refused.
type damagedError struct{ error }

// Unwrap returns the cause.
func (d damagedError) Unwrap() error { return d.error }

func isDamage(err error) bool {
	_, ok := errors.AsType[damagedError](err)
	return ok
}

// asDamage marks err as damage if its cause is the content that was read.
func asDamage(err error) error {
	for _, cause := range []error{release.ErrDigest, boundedio.ErrTooLarge, io.ErrUnexpectedEOF} {
		if errors.Is(err, cause) {
			return damagedError{err}
		}
	}
	return err
}

// absentIsDamage is asDamage for what something else leads to.
func absentIsDamage(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return damagedError{err}
	}
	return asDamage(err)
}

// unlessRepaired is err, but for damage that the push is there to repair.
func (p *push) unlessRepaired(ctx context.Context, err error) error {
	switch {
	case !isDamage(err):
		return err
	case !p.cfg.Repair:
		return fmt.Errorf("%w: if it is the repository, repair it (release push --repair)", err)
	}
	return p.checkForeign(ctx)
}

// checkForeign refuses to replace what is under the tag if that is whole, and
// all the same no repository that can be read: it is something else, or of a
// later form.
func (p *push) checkForeign(ctx context.Context) error {
	raw, err := p.target.manifest(ctx, Tag)
	if err != nil {
		if isDamage(asDamage(err)) {
			return nil
		}
		return err
	}
	_, _, foreign := parseRoot(raw)
	if foreign == nil {
		return nil
	}
	// Damaged bytes do not lie under the digest that they have.
	same, err := p.target.manifest(ctx, digestOf(raw))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(raw, same) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("tag %s of %s: %w, and it is whole, so that there is nothing to repair: give another repository, or remove the tag", Tag, p.target, foreign)
}

// write writes a manifest. With Repair it is read back.
func (p *push) write(ctx context.Context, doc document, tag string) error {
	if err := p.target.putManifest(ctx, doc.desc, doc.raw, tag); err != nil || !p.cfg.Repair {
		return err
	}
	return p.readBack(ctx, doc)
}

func (p *push) readBack(ctx context.Context, doc document) error {
	_, err := pinned(ctx, p.target, doc.desc)
	if isDamage(absentIsDamage(err)) {
		return p.stays(doc.desc)
	}
	return err
}

// rewrite writes a tagged manifest anew if what is there under the tag is a
// damaged copy of it; false if it is another one.
func (p *push) rewrite(ctx context.Context, doc document, tag string, there []byte) (bool, error) {
	raw, err := p.target.manifest(ctx, string(doc.desc.Digest))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !bytes.Equal(raw, there) {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	if err := p.target.putManifest(ctx, doc.desc, doc.raw, tag); err != nil {
		return true, err
	}
	return true, p.readBack(ctx, doc)
}
