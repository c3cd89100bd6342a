package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/failpoint"
)

// KeyringConfig says where a keyring goes and who must have signed it. Dir
// and Trust.Roots are required.
type KeyringConfig struct {
	// Dir is the repository's directory, made if it is missing.
	Dir string
	// Trust holds the Roots and the Threshold that hosts have.
	Trust Trust
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// InstallKeyring puts a signed keyring into a repository, where hosts find it.
// It needs no private key. What hosts would refuse is refused here: too few
// roots, an older sequence, a revocation that is gone, an expired document.
// To install the same document again mends or adds signatures.
//
// One rename publishes it; a process that dies before that has published
// nothing, and one that dies later all. It waits for publishers until ctx
// ends.
func InstallKeyring(ctx context.Context, cfg KeyringConfig, document []byte, signatures ...[]byte) (*Keyring, error) {
	k, err := installKeyring(ctx, cfg, document, signatures)
	return k, wrap("install keyring in", cfg.Dir, err)
}

func installKeyring(ctx context.Context, cfg KeyringConfig, document []byte, signatures [][]byte) (k *Keyring, err error) {
	dir, err := directory(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	k, good, err := cfg.Trust.verifyKeyring(document, signatures)
	if err != nil {
		return nil, err
	}
	if now := cfg.Now(); !now.Before(k.Expires) {
		return nil, fmt.Errorf("%w: keyring %d expired at %s: make and sign a new one", ErrExpired, k.Sequence, stamp(k.Expires))
	}
	r := &Repository{cfg: RepositoryConfig{Dir: dir, Trust: cfg.Trust, Now: cfg.Now}}
	unlock, err := r.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := r.maySucceed(ctx, k, document); err != nil {
		return nil, err
	}
	return k, r.writeKeyring(document, good)
}

// maySucceed compares a keyring with the one that is installed, and with the
// name of the index.
func (r *Repository) maySucceed(ctx context.Context, k *Keyring, document []byte) error {
	src, err := NewDir(r.cfg.Dir)
	if err != nil {
		return err
	}
	if raw, err := atomicfile.Read(filepath.Join(r.cfg.Dir, indexPath), MaxIndexSize); err == nil {
		if x, err := ParseIndex(raw); err == nil && x.Name != k.Name {
			return fmt.Errorf("%s is the repository of %s, the keyring is of %s: give each program a directory of its own", r.cfg.Dir, x.Name, k.Name)
		}
	}
	there, err := readKeyring(ctx, src, r.cfg.Trust, nil)
	if err != nil {
		return fmt.Errorf("the keyring that is there is not replaced: %w; move it away if these are the right roots", err)
	}
	if there == nil {
		return nil
	}
	old := there.parsed
	switch same := bytes.Equal(there.Document, document); {
	case same:
		return nil
	case old.Name != k.Name:
		return fmt.Errorf("%s holds the keyring of %s, this one is of %s: give each program a directory of its own", r.cfg.Dir, old.Name, k.Name)
	case k.Sequence <= old.Sequence:
		return fmt.Errorf("%w: keyring %d is installed, this one has sequence %d: make the next one from the one that is installed, and sign that", ErrReplay, old.Sequence, k.Sequence)
	}
	for _, gone := range old.Revoked {
		if k.revoked(gone.ID) == nil {
			return fmt.Errorf("%w: keyring %d revokes key %s, and this one does not; hosts never take back a revocation: make the next one from the one that is installed", ErrRevoked, old.Sequence, gone.ID)
		}
		if now := k.revoked(gone.ID); gone.Key != "" && now.Key != gone.Key {
			return fmt.Errorf("%w: keyring %d tells of the revoked key %s what it is, and this one does not, so that hosts could take the same key under another id: make the next one from the one that is installed, with a tool as new as the one that made that", ErrRevoked, old.Sequence, gone.ID)
		}
	}
	return nil
}

// writeKeyring writes the signatures under the document's digest, then the
// document, then the copies of the signatures for people and other tools.
func (r *Repository) writeKeyring(document []byte, signatures [][]byte) error {
	digest := sha256Hex(document)
	var copies []string
	for _, signature := range signatures {
		root, err := signatureKey(signature)
		if err != nil {
			return err
		}
		if err := r.write(keyringSignaturePath(digest, root), signature); err != nil {
			return err
		}
		copies = append(copies, keyringCopyPath(root))
	}
	if err := failpoint.Hit("keyring.document"); err != nil {
		return err
	}
	if err := r.retain("keyrings", keyringPath, MaxKeyringSize); err != nil {
		return err
	}
	if err := r.write(keyringPath, document); err != nil {
		return err
	}
	if err := failpoint.Hit("keyring.copies"); err != nil {
		return err
	}
	for i, path := range copies {
		if err := r.write(path, signatures[i]); err != nil {
			return err
		}
	}
	return errors.Join(r.removeCopies(copies), r.prune("keyrings", digest))
}

// removeCopies removes the copies of roots that have not signed this keyring.
func (r *Repository) removeCopies(keep []string) error {
	entries, err := os.ReadDir(r.cfg.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, keyringPath+".") || !strings.HasSuffix(name, signatureSuffix) || slices.Contains(keep, name) {
			continue
		}
		if err := os.Remove(filepath.Join(r.cfg.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// keyring returns the repository's keyring, nil if it has none, once it counts
// and allows the publisher's key to sign now. Without roots nobody has vouched for it:
// then it can stop the publisher, and nothing else is decided on it.
func (r *Repository) keyring(ctx context.Context, src Source, name string) (*Keyring, error) {
	k, err := r.readKeyring(ctx, src)
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w", keyringPath, r.cfg.Dir, err)
	}
	if k == nil {
		return nil, nil //nolint:nilnil // it has none
	}
	if k.Name != name {
		return nil, fmt.Errorf("%w: %s has the keyring of %s, the release is of %s: give each program a directory of its own", ErrUntrusted, r.cfg.Dir, k.Name, name)
	}
	if !r.cfg.Now().Before(k.Expires) {
		return nil, fmt.Errorf("%w: keyring %d of %s expired at %s, and by it no host takes anything: have the roots sign a new one (keys renew, keys sign), and install it first", ErrExpired, k.Sequence, k.Name, stamp(k.Expires))
	}
	return k, r.maySign(k, r.cfg.Now())
}

func (r *Repository) readKeyring(ctx context.Context, src Source) (*Keyring, error) {
	if len(r.cfg.Trust.Roots) > 0 {
		found, err := readKeyring(ctx, src, r.cfg.Trust, nil)
		if err == nil && found == nil {
			err = fmt.Errorf("%w: there is none, and hosts that trust roots want one: install it first", ErrNotFound)
		}
		if err != nil {
			return nil, err
		}
		return found.parsed, nil
	}
	document, err := readSmall(ctx, src, keyringPath, MaxKeyringSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // it has none
	}
	if err != nil {
		return nil, err
	}
	return ParseKeyring(document)
}

// maySign says why hosts would refuse what the publisher's key signs at a
// time.
func (r *Repository) maySign(k *Keyring, at time.Time) error {
	public, err := publicKey(r.cfg.Key)
	if err != nil {
		return err
	}
	id := KeyID(public)
	if revoked := k.revoked(id); revoked != nil {
		return revoked.refusal()
	}
	if revoked := k.revokedAs(public); revoked != nil {
		return revoked.refusalAs(id)
	}
	key := k.key(id)
	if key == nil || key.Key != public.String() {
		return fmt.Errorf("%w: key %s may not sign releases of %s, keyring %d lists %s: use one of those, or have the roots add this one", ErrUntrusted, id, k.Name, k.Sequence, k.ids())
	}
	if err := key.validAt(at); err != nil {
		return fmt.Errorf("%w: %w: publish with a key that signs then, or have the roots change its time", ErrUntrusted, err)
	}
	return nil
}

// mayRelease is maySign for a manifest, whose key must have signed when the
// release was made: hosts go by the time that the manifest tells.
func (r *Repository) mayRelease(k *Keyring, m *Manifest) error {
	if k == nil {
		return nil
	}
	return r.maySign(k, m.Created)
}

// mayExtend decides whether an index is extended: one by the publisher's own
// key, by a key that it was given for that, or by one of the keyring that the
// roots have signed.
func (r *Repository) mayExtend(k *Keyring, raw, signature []byte) error {
	err := Trust{Keys: r.cfg.Trust.Keys}.Verify(raw, signature)
	if err == nil || k == nil || len(r.cfg.Trust.Roots) == 0 {
		return err
	}
	return k.verifyAt(raw, signature, r.cfg.Now())
}
