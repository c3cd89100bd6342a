package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// again accepts or refuses m as a release that is published already, mends its
// manifest if that was lost or damaged, and returns it. The blobs are
// storeBlobs' part, the signature mendSignature's.
func (r *Repository) again(ctx context.Context, x *Index, rel Release, m *Manifest) (*Manifest, error) {
	e := *x.entry(rel.Version)
	if err := r.mendManifest(ctx, x, rel, m); err != nil {
		return nil, err
	}
	return r.checkSame(e, m)
}

// mendManifest puts the bytes back if m, as it is or with the smaller forms
// that were made of it, gives the digest that the signed index lists.
func (r *Repository) mendManifest(ctx context.Context, x *Index, rel Release, m *Manifest) error {
	e := *x.entry(rel.Version)
	path := manifestPath(e.Manifest)
	raw, err := atomicfile.Read(r.file(path), MaxManifestSize)
	if e.Yanked != "" || err == nil && sha256Hex(raw) == e.Manifest {
		return nil
	}
	raw, err = encodeDocument(m)
	if err == nil && sha256Hex(raw) != e.Manifest && !r.cfg.PlainOnly {
		raw, err = r.encodeAgain(ctx, x, rel, *m)
	}
	if err != nil || sha256Hex(raw) != e.Manifest {
		return err // checkSame says what is wrong
	}
	return r.write(path, raw)
}

// encodeAgain returns the manifest of a release with its smaller forms, which
// are made anew. The same binaries give the same ones as long as the older
// binaries are there and offered.
func (r *Repository) encodeAgain(ctx context.Context, x *Index, rel Release, m Manifest) ([]byte, error) {
	m.Platforms = slices.Clone(m.Platforms) // m's own are compared without forms
	if err := r.storeBlobs(ctx, rel.Binaries, &m); err != nil {
		return nil, err
	}
	if err := r.encode(ctx, x, rel, &m); err != nil {
		return nil, err
	}
	return encodeDocument(&m)
}

// mendSignature signs the manifest of a published release anew if its signature
// is damaged, or by a key that does not count any more. Its bytes are those that
// the signed index lists, and the publisher has just given the very content, so
// it vouches for it anew. k is nil where there is no keyring.
func (r *Repository) mendSignature(k *Keyring, e IndexEntry, m *Manifest) error {
	path := manifestPath(e.Manifest)
	raw, err := atomicfile.Read(r.file(path), MaxManifestSize)
	if err != nil {
		return err
	}
	signature, err := atomicfile.Read(r.file(path+signatureSuffix), maxSignatureSize)
	if err == nil && k != nil {
		_, err = k.VerifyManifest(m.Name, m.Version, raw, signature)
	} else if err == nil {
		err = Trust{Keys: r.cfg.Trust.Keys}.Verify(raw, signature)
	}
	if err == nil {
		return nil
	}
	if sha256Hex(raw) != e.Manifest {
		return fmt.Errorf("%w: the manifest of the published %s was changed", ErrDigest, e.Version)
	}
	if err := r.mayRelease(k, m); err != nil {
		return err
	}
	return r.write(path+signatureSuffix, sign(r.cfg.Key, raw, m.Name+" "+m.Version))
}

// file is where a file of the repository lies.
func (r *Repository) file(path string) string {
	return filepath.Join(r.cfg.Dir, filepath.FromSlash(path))
}

// mendForms makes the smaller forms of a published release again whose blobs are
// missing or damaged. What cannot be made, or comes out as other bytes than
// were signed, stays away: agents take another form.
func (r *Repository) mendForms(ctx context.Context, m *Manifest, progress func(string)) error {
	for _, p := range m.Platforms {
		signed := p
		p.Encodings, p.Deltas = nil, nil
		e := r.encoder(&p, progress)
		for _, enc := range signed.Encodings {
			there, err := has(ctx, filepath.Join(e.dir, enc.SHA256), enc.whole())
			if err == nil && !there && enc.Format == FormatZstd {
				err = e.compress(ctx)
			}
			if err != nil {
				return fmt.Errorf("%s: %s: %w", p, enc.Format, writeError(err))
			}
		}
		for _, d := range signed.Deltas {
			there, err := has(ctx, filepath.Join(e.dir, d.SHA256), d.whole())
			if err == nil && !there {
				err = e.diffAgain(ctx, d)
			}
			if err != nil {
				return fmt.Errorf("%s: %s delta from %.12s: %w", p, d.Format, d.From, writeError(err))
			}
		}
	}
	return nil
}

// whole describes the encoded bytes as if they were a binary.
func (e Encoding) whole() Platform { return Platform{SHA256: e.SHA256, Size: e.Size} }

// diffAgain makes a delta if this repository still can.
func (e *encoder) diffAgain(ctx context.Context, d Delta) error {
	f := form{Encoding: Encoding{Format: d.Format}, from: d.From, old: filepath.Join(e.dir, d.From)}
	_, err := os.Stat(f.old)
	if errors.Is(err, fs.ErrNotExist) {
		e.tell("the %s delta from %.12s is missing, and so is that binary", d.Format, d.From)
		return nil
	}
	if err != nil {
		return err
	}
	for _, differ := range e.differs() {
		if differ.Format() != d.Format {
			continue
		}
		old, err := f.readOld(ctx)
		if err != nil {
			return err
		}
		current, err := form{from: e.platform.SHA256, old: e.binary()}.readOld(ctx)
		if err != nil {
			return err
		}
		_, err = e.store(ctx, f, e.platform.Size, func(w io.Writer) error { return differ.Diff(ctx, w, old, current) })
		return err
	}
	e.tell("the %s delta from %.12s is missing, and nothing that makes such deltas is configured", d.Format, d.From)
	return nil
}
