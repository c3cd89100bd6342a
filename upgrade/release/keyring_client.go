package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"aead.dev/minisign"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/boundedio"
)

// signers decide whose signature counts: a Trust of one or more keys, or the
// keyring in force.
type signers interface {
	// verifyAt is for documents that are about a time, such as now.
	verifyAt(message, signature []byte, at time.Time) error
	VerifyManifest(name, version string, raw, signature []byte) (*Manifest, error)
}

// verifier checks one signature.
type verifier func(message, signature []byte) error

// Keyring fetches the keyring and returns the one in force, with the
// revocations of all that this host has accepted. A repository that serves
// none leaves the one that was accepted before in force; one that serves an
// older or a forged one is refused. Its error wraps ErrUntrusted, ErrReplay or
// ErrExpired where one of them is the cause; with ErrExpired the keyring, which
// is in force and lets nothing in, is returned all the same. A client whose Trust has no Roots
// has no keyring: the error then wraps ErrNotFound.
func (c *Client) Keyring(ctx context.Context) (*Keyring, error) {
	if len(c.cfg.Trust.Roots) == 0 {
		return nil, wrap("read keyring of", c.cfg.Name, fmt.Errorf("%w: the trust names release keys and no roots, and keyrings are signed by roots: give these (Trust.Roots, --trust-roots) in place of the keys", ErrNotFound))
	}
	k, err := asking(ctx, c.cfg.Source, func(src Source) (*Keyring, error) { return c.keyring(ctx, src) })
	return k, wrap("read keyring of", c.cfg.Name, err)
}

func (c *Client) signers(ctx context.Context, src Source) (signers, error) {
	if len(c.cfg.Trust.Roots) == 0 {
		return c.cfg.Trust, nil
	}
	return c.keyring(ctx, src)
}

// keyring returns the keyring in force, which is saved before it is used; also
// with ErrExpired, for people to look at.
func (c *Client) keyring(ctx context.Context, src Source) (*Keyring, error) {
	c.mu.Lock()
	saved, err := c.saved()
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	found, err := readKeyring(ctx, src, c.cfg.Trust, saved.Keyring)
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w", keyringPath, src, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if saved, err = c.saved(); err != nil {
		return nil, err
	}
	var inForce *Keyring
	if found == nil {
		inForce, _ = saved.keyring(c.cfg.Trust)
	} else {
		if saved, err = c.update(ctx, func(saved trustState) (trustState, bool, error) { return c.succeed(saved, found) }); err != nil {
			return nil, err
		}
		c.state, inForce = saved, found.parsed
		found.keep(src)
	}
	if inForce == nil {
		return nil, fmt.Errorf("%w: %s has no %s, and this host has accepted none yet: check that this is the repository and its address right (--repo); in a new one the publisher installs a keyring that the roots have signed (keys install)", ErrUntrusted, src, keyringPath)
	}
	if now := saved.now(c.cfg.Now()); !now.Before(inForce.Expires) {
		return inForce.withRevoked(saved), fmt.Errorf("%w: keyring %d of %s expired at %s, it is %s: let the roots sign a new one, or use a current mirror", ErrExpired, inForce.Sequence, inForce.Name, stamp(inForce.Expires), stamp(now))
	}
	return inForce.withRevoked(saved), nil
}

// keep hands the keyring over to a source that keeps documents, its signatures
// first.
func (k *signedKeyring) keep(src Source) {
	digest := sha256Hex(k.Document)
	var documents []document
	for _, text := range k.Signatures {
		var signature minisign.Signature
		if err := signature.UnmarshalText(text); err == nil {
			documents = append(documents, document{keyringSignaturePath(digest, keyID(signature.KeyID)), text})
		}
	}
	keep(src, append(documents, document{keyringPath, k.Document})...)
}

// succeed compares a keyring that the roots have signed with what this host has
// accepted, and returns the state with it.
func (c *Client) succeed(saved trustState, found *signedKeyring) (next trustState, changed bool, err error) {
	k := found.parsed
	if k.Name != c.cfg.Name {
		return saved, false, fmt.Errorf("%w: wanted the keyring of %s, %s holds the signed keyring of %s: give the repository of %s, or, if %s is meant, its name (--name)", ErrUntrusted, c.cfg.Name, c.cfg.Source, k.Name, c.cfg.Name, k.Name)
	}
	if inForce, _ := saved.keyring(c.cfg.Trust); inForce != nil {
		switch same := bytes.Equal(found.Document, saved.Keyring.Document); {
		case k.Sequence < inForce.Sequence:
			return saved, false, fmt.Errorf("%w: found keyring %d of %s, this host has accepted %d: the repository is out of date or a mirror replays an old state; use a current one", ErrReplay, k.Sequence, k.Name, inForce.Sequence)
		case k.Sequence == inForce.Sequence && !same:
			return saved, false, fmt.Errorf("%w: two different keyrings of %s are signed with sequence %d: let the roots sign one more", ErrReplay, k.Name, k.Sequence)
		case same && !saved.learnsFrom(k):
			return saved, false, nil
		}
	}
	next, err = saved.acceptKeyring(found)
	return next, true, err
}

// now is the later of the clock and the last time that this host has seen.
// What cannot be read here is an error where it is read next.
func (c *Client) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	saved, err := c.saved()
	if err != nil {
		return c.cfg.Now()
	}
	return saved.now(c.cfg.Now())
}

// readKeyring returns the keyring of a repository, signed by enough roots, nil
// if it has none. Where it is the known one no signature is fetched. Like an
// index it is read again before its signatures are given up.
func readKeyring(ctx context.Context, src Source, trust Trust, known *signedKeyring) (*signedKeyring, error) {
	wait := backoff.Backoff{Min: 50 * time.Millisecond, Max: 500 * time.Millisecond}
	for attempt := 1; ; attempt++ {
		document, err := readSmall(ctx, src, keyringPath, MaxKeyringSize)
		if errors.Is(err, fs.ErrNotExist) || known != nil && errors.Is(err, ErrNotCached) {
			return nil, misplaced(src) // it has none, or none that may be asked for
		}
		if err != nil {
			return nil, err
		}
		found, err := verifyKnown(trust, document, known)
		if err != nil {
			found, err = verifyFetched(ctx, src, trust, document)
		}
		if err == nil {
			return found, nil
		}
		if attempt == indexAttempts || !errors.Is(err, ErrUntrusted) {
			return nil, err
		}
		if err := wait.Wait(ctx); err != nil {
			return nil, err
		}
	}
}

// verifyKnown takes the known signatures for the known document.
func verifyKnown(trust Trust, document []byte, known *signedKeyring) (*signedKeyring, error) {
	if known == nil || !bytes.Equal(known.Document, document) {
		return nil, ErrNotFound
	}
	return newSignedKeyring(trust, document, known.Signatures)
}

func verifyFetched(ctx context.Context, src Source, trust Trust, document []byte) (*signedKeyring, error) {
	signatures, err := readKeyringSignatures(ctx, src, trust, document)
	if err != nil {
		return nil, err
	}
	return newSignedKeyring(trust, document, signatures)
}

func newSignedKeyring(trust Trust, document []byte, signatures [][]byte) (*signedKeyring, error) {
	k, good, err := trust.verifyKeyring(document, signatures)
	if err != nil {
		return nil, err
	}
	return &signedKeyring{Sequence: k.Sequence, Document: document, Signatures: good, parsed: k}, nil
}

// readKeyringSignatures fetches each root's signature, from under the digest
// of the document or else from beside it, until there are enough. What does
// not match is returned, too: it tells why there are too few. A cache has kept
// those that counted: that it lacks others matters only if they are wanted.
func readKeyringSignatures(ctx context.Context, src Source, trust Trust, document []byte) ([][]byte, error) {
	digest := sha256Hex(document)
	var found [][]byte
	var lacking error
	good := 0
	for _, root := range trust.Roots {
		for _, path := range []string{keyringSignaturePath(digest, KeyID(root)), keyringCopyPath(KeyID(root))} {
			signature, err := readSmall(ctx, src, path, maxKeyringSignature)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, boundedio.ErrTooLarge) {
				continue
			}
			if errors.Is(err, ErrNotCached) {
				lacking = err
				continue
			}
			if err != nil {
				return nil, err
			}
			found = append(found, signature)
			if (Trust{Keys: []minisign.PublicKey{root}}).Verify(document, signature) == nil {
				good++
				break
			}
		}
		if good == trust.Needed() {
			return found, nil
		}
	}
	return found, lacking
}
