package release

import (
	"fmt"
	"path/filepath"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

// again accepts or refuses m as a release that is published already, mends its
// manifest if that was lost or damaged, and returns it. The blobs are
// storeBlobs' part, the signature mendSignature's.
func (r *Repository) again(e IndexEntry, m *Manifest) (*Manifest, error) {
	if err := r.mendManifest(e, m); err != nil {
		return nil, err
	}
	return r.checkSame(e, m)
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
	return r.write(path+signatureSuffix, sign(r.cfg.Key, raw, m.Name+" "+m.Version))
}

// file is where a file of the repository lies.
func (r *Repository) file(path string) string {
	return filepath.Join(r.cfg.Dir, filepath.FromSlash(path))
}
