package release

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"aead.dev/minisign"
)

// Trust says whose signatures count, in one of two forms. The zero value
// trusts nothing.
type Trust struct {
	// Keys are release keys. One good signature by any of them is enough.
	Keys []minisign.PublicKey
	// Roots are keys that sign no release, but the Keyring in which the
	// release keys are listed: so these can be replaced and revoked while
	// the program runs on many hosts. At most 16.
	Roots []minisign.PublicKey
	// Threshold is how many of the Roots must have signed a keyring; default
	// more than half.
	Threshold int
}

func errNoTrust() error {
	return fmt.Errorf("%w: no trusted key is configured: give the release.pub of the publisher, or its root keys", ErrUntrusted)
}

// LoadTrust reads a file of one or more public keys, one a line, as minisign
// and GenerateKey write them.
func LoadTrust(path string) (trust Trust, err error) {
	f, err := os.Open(path)
	if err != nil {
		return Trust{}, fmt.Errorf("trusted keys: %w: give the release.pub of the publisher", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFileSize+1))
	if err != nil {
		return Trust{}, fmt.Errorf("trusted keys: %w", err)
	}
	if len(text) > maxKeyFileSize {
		return Trust{}, fmt.Errorf("trusted keys: %s is larger than %d bytes: give the release.pub of the publisher", path, maxKeyFileSize)
	}
	keys, err := parsePublicKeys(text)
	if err != nil {
		return Trust{}, fmt.Errorf("trusted keys in %s: %w", path, err)
	}
	return Trust{Keys: keys}, nil
}

// clone lets a constructor keep its own copy.
func (t Trust) clone() Trust {
	t.Keys, t.Roots = slices.Clone(t.Keys), slices.Clone(t.Roots)
	return t
}

// String lists the ids of the keys or roots, as minisign prints them.
func (t Trust) String() string {
	var ids []string
	for _, k := range slices.Concat(t.Keys, t.Roots) {
		ids = append(ids, keyID(k.ID()))
	}
	return strings.Join(ids, ", ")
}

// Verify checks a minisign signature over message. Only prehashed signatures
// count, the form that both minisign -H and this package write. Its error
// wraps ErrUntrusted. Roots sign nothing but keyrings: with them alone it
// refuses everything, and Client.Keyring returns what to verify with.
func (t Trust) Verify(message, signature []byte) error {
	if len(t.Keys) == 0 && len(t.Roots) > 0 {
		return fmt.Errorf("%w: root keys sign keyrings alone: verify with the keys of the keyring", ErrUntrusted)
	}
	if len(t.Keys) == 0 {
		return errNoTrust()
	}
	if len(signature) > maxSignatureSize {
		return fmt.Errorf("%w: the signature has %d bytes, at most %d are read: publish the file again", ErrUntrusted, len(signature), maxSignatureSize)
	}
	var s minisign.Signature
	if err := s.UnmarshalText(signature); err != nil {
		return fmt.Errorf("%w: the signature cannot be read: %w: publish the file again", ErrUntrusted, err)
	}
	if s.Algorithm != minisign.HashEdDSA {
		return fmt.Errorf("%w: the signature is of the legacy kind that does not hash first: sign again with minisign -H or release build", ErrUntrusted)
	}
	known := false
	for _, key := range t.Keys {
		if key.ID() != s.KeyID {
			continue
		}
		known = true
		r := minisign.NewReader(bytes.NewReader(message))
		if _, err := io.Copy(io.Discard, r); err != nil {
			return fmt.Errorf("%w: %w", ErrUntrusted, err)
		}
		if r.Verify(key, signature) {
			return nil
		}
	}
	if !known {
		return fmt.Errorf("%w: signed by key %s, trusted are %s: ask the publisher which key is right; do not take it from the repository", ErrUntrusted, keyID(s.KeyID), t)
	}
	return fmt.Errorf("%w: the signature by key %s does not match the content: it was changed after signing, or belongs to another file; get an untouched copy from the publisher", ErrUntrusted, keyID(s.KeyID))
}

// verifyAt is Verify: these keys have no time of their own.
func (t Trust) verifyAt(message, signature []byte, _ time.Time) error {
	return t.Verify(message, signature)
}

// VerifyManifest checks the signature first, parses the manifest after that,
// and compares its name and version with the ones asked for. Errors about
// the signature or the name wrap ErrUntrusted.
func (t Trust) VerifyManifest(name, version string, raw, signature []byte) (*Manifest, error) {
	if err := t.Verify(raw, signature); err != nil {
		return nil, fmt.Errorf("manifest of %s %s: %w", name, version, err)
	}
	return parseSigned(name, version, raw)
}

// parseSigned parses a manifest whose signature is good.
func parseSigned(name, version string, raw []byte) (*Manifest, error) {
	m, err := ParseManifest(raw)
	if err != nil {
		return nil, err
	}
	if m.Name != name || m.Version != version {
		return nil, fmt.Errorf("%w: wanted the manifest of %s %s, found the signed manifest of %s %s: the repository answers with another release", ErrUntrusted, name, version, m.Name, m.Version)
	}
	return m, nil
}

// sign makes a prehashed signature. The comment tells people what was
// signed; nothing is decided on it.
func sign(key minisign.PrivateKey, message []byte, comment string) []byte {
	return signAs(key, message, comment, "release")
}

// signAs also says, for people, what kind of key has signed.
func signAs(key minisign.PrivateKey, message []byte, comment, role string) []byte {
	r := minisign.NewReader(bytes.NewReader(message))
	_, _ = io.Copy(io.Discard, r) // reading from memory into nothing cannot fail
	return r.SignWithComments(key, comment, "signature by "+role+" key "+keyID(key.ID()))
}

func keyID(id uint64) string { return fmt.Sprintf("%016X", id) }
