package release

import (
	"path/filepath"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// again accepts or refuses m as a release that is published already, and mends
// of its files what was lost or damaged, as far as that can be told. The blobs
// are storeBlobs' part.
func (r *Repository) again(e IndexEntry, m *Manifest) error {
	if err := r.mendManifest(e, m); err != nil {
		return err
	}
	if err := r.checkSame(e, m); err != nil {
		return err
	}
	return r.mendSignature(e, m)
}

// mendManifest puts the bytes back if m gives the digest that the signed index
// lists.
func (r *Repository) mendManifest(e IndexEntry, m *Manifest) error {
	path := manifestPath(e.Manifest)
	raw, err := atomicfile.Read(r.file(path), MaxManifestSize)
	if e.Yanked != "" || err == nil && sha256Hex(raw) == e.Manifest {
		return nil
	}
	if raw, err = encodeDocument(m); err != nil || sha256Hex(raw) != e.Manifest {
		return err // checkSame says what is wrong
	}
	return r.write(path, raw)
}

// mendSignature signs the manifest anew if its signature is not good any more.
// Its bytes are those that the signed index lists.
func (r *Repository) mendSignature(e IndexEntry, m *Manifest) error {
	path := manifestPath(e.Manifest)
	raw, err := atomicfile.Read(r.file(path), MaxManifestSize)
	if err != nil {
		return err
	}
	signature, err := atomicfile.Read(r.file(path+signatureSuffix), maxSignatureSize)
	if err == nil && r.cfg.Trust.Verify(raw, signature) == nil {
		return nil
	}
	return r.write(path+signatureSuffix, sign(r.cfg.Key, raw, m.Name+" "+m.Version))
}

// file is where a file of the repository lies.
func (r *Repository) file(path string) string {
	return filepath.Join(r.cfg.Dir, filepath.FromSlash(path))
}
