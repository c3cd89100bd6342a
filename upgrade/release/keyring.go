package release

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"aead.dev/minisign"
)

// Bounds of a keyring.
const (
	// MaxKeyringSize bounds keyring.json, in bytes.
	MaxKeyringSize = 64 << 10

	maxKeyringKeys = 64
	maxRevoked     = 256
	maxKeyComment  = 256
)

// Keyring says which keys may sign the releases of one program, and which
// never may again. It is signed by root keys, which sign nothing else and can
// be kept where no network reaches: see Trust.VerifyKeyring.
//
// NewKeyring, Add, Retire, Revoke and Issue make the next keyring; none of
// them needs a root key. A Keyring is not safe for concurrent change.
type Keyring struct {
	// Schema is the format's number; see Schema.
	Schema int `json:"schema"`
	// Name is the program whose releases the keys may sign.
	Name string `json:"name"`
	// Sequence starts at 1 and grows with each keyring that is issued.
	Sequence int64 `json:"sequence"`
	// Issued is when the document was made, in UTC.
	Issued time.Time `json:"issued"`
	// Expires is when hosts stop upgrading by it, in UTC.
	Expires time.Time `json:"expires"`
	// Keys lists the release keys, at most 64.
	Keys []KeyringKey `json:"keys"`
	// Revoked lists keys whose signatures count no more, whenever they were
	// made; at most 256. A key that is here stays here for ever.
	Revoked []RevokedKey `json:"revoked,omitempty"`
}

// KeyringKey is a key that may sign releases.
type KeyringKey struct {
	// Key is a minisign public key: the base64 line of a .pub file.
	Key string `json:"key"`
	// NotBefore and NotAfter limit the time in which the key signs: an index
	// counts if now is in between, a manifest if its creation is. Zero is no
	// limit.
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	// Comment is for people.
	Comment string `json:"comment,omitempty"`
}

// RevokedKey is a key that signs nothing any more.
type RevokedKey struct {
	// ID is the key's id as minisign prints it: 16 upper-case hexadecimal
	// digits.
	ID string `json:"id"`
	// Key is the public key itself, as in KeyringKey: whoever makes a key file
	// chooses its id, and so the same key under another one is refused, too.
	// Empty where it was not known, as in what older releases wrote.
	Key string `json:"key,omitempty"`
	// Since is when the key was revoked, for people: a revocation is about
	// every signature of the key, for whoever stole it can date them back.
	Since time.Time `json:"since"`
	// Reason is for people.
	Reason string `json:"reason"`
}

// KeyID returns the id of a key as minisign prints it.
func KeyID(key minisign.PublicKey) string { return keyID(key.ID()) }

// ID returns the key's id as minisign prints it, empty if Key is no key.
func (k KeyringKey) ID() string {
	key, err := k.public()
	if err != nil {
		return ""
	}
	return KeyID(key)
}

func (k KeyringKey) public() (key minisign.PublicKey, err error) {
	if err := key.UnmarshalText([]byte(k.Key)); err != nil || key.String() != k.Key {
		return minisign.PublicKey{}, fmt.Errorf("%.80q is no minisign public key: give the base64 line of a .pub file", redact(k.Key))
	}
	return key, nil
}

// validAt says why the key does not sign at a time, nil if it does.
func (k KeyringKey) validAt(at time.Time) error {
	switch {
	case !k.NotBefore.IsZero() && at.Before(k.NotBefore):
		return fmt.Errorf("key %s signs from %s on, and it is about %s", k.ID(), stamp(k.NotBefore), stamp(at))
	case !k.NotAfter.IsZero() && !at.Before(k.NotAfter):
		return fmt.Errorf("key %s signed until %s, and it is about %s", k.ID(), stamp(k.NotAfter), stamp(at))
	}
	return nil
}

// ParseKeyring decodes and checks a keyring. It does not check signatures,
// the expiry or the sequence: Trust.VerifyKeyring does the first, a Client
// all of it.
func ParseKeyring(data []byte) (*Keyring, error) {
	k := new(Keyring)
	if err := decodeDocument("keyring", data, MaxKeyringSize, k); err != nil {
		return nil, err
	}
	if err := k.validate(); err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return k, nil
}

func (k *Keyring) validate() error {
	if err := CheckName(k.Name); err != nil {
		return err
	}
	if k.Sequence < 1 || k.Sequence > maxSequence {
		return fmt.Errorf("sequence %d is not between 1 and %d", k.Sequence, int64(maxSequence))
	}
	if k.Issued.IsZero() || !k.Expires.After(k.Issued) {
		return fmt.Errorf("issued %s and expires %s: want the second after the first", stamp(k.Issued), stamp(k.Expires))
	}
	return k.validateKeys()
}

// validateKeys checks what a draft has, too.
func (k *Keyring) validateKeys() error {
	if len(k.Keys) == 0 && len(k.Revoked) == 0 {
		return errors.New("it lists no key: add one")
	}
	if len(k.Keys) > maxKeyringKeys || len(k.Revoked) > maxRevoked {
		return fmt.Errorf("%d keys and %d revocations, at most %d and %d are read", len(k.Keys), len(k.Revoked), maxKeyringKeys, maxRevoked)
	}
	seen := map[string]bool{}
	for _, r := range k.Revoked {
		if !validKeyID(r.ID) {
			return fmt.Errorf("revoked id %.40q: want 16 upper-case hexadecimal digits, as minisign prints them", r.ID)
		}
		if seen[r.ID] {
			return fmt.Errorf("key %s is revoked twice", r.ID)
		}
		seen[r.ID] = true
		if key, err := r.public(); err != nil || r.Key != "" && KeyID(key) != r.ID {
			return fmt.Errorf("revoked key %s has %.80q beside its id, which is not that key: give the key, or the id alone", r.ID, redact(r.Key))
		}
	}
	material := map[string]string{}
	for _, key := range k.Keys {
		public, err := key.public()
		if err != nil {
			return err
		}
		id := KeyID(public)
		if seen[id] {
			return fmt.Errorf("key %s is listed twice, or listed and revoked", id)
		}
		seen[id] = true
		// An id is a label that whoever makes a key file chooses.
		if other := material[rawPublic(public)]; other != "" {
			return fmt.Errorf("key %s is the key %s under another id: it would survive the revocation of that; list it once", id, other)
		}
		if r := k.revokedAs(public); r != nil {
			return fmt.Errorf("%w: key %s is the revoked key %s under another id: generate another", ErrRevoked, id, r.ID)
		}
		material[rawPublic(public)] = id
		if !key.NotAfter.IsZero() && !key.NotAfter.After(key.NotBefore) {
			return fmt.Errorf("key %s signs from %s until %s: want the second after the first", id, stamp(key.NotBefore), stamp(key.NotAfter))
		}
		if len(key.Comment) > maxKeyComment {
			return fmt.Errorf("key %s has a comment of %d bytes, at most %d are read", id, len(key.Comment), maxKeyComment)
		}
	}
	return nil
}

// validKeyID keeps ids safe in file names.
func validKeyID(id string) bool {
	return len(id) == 16 && strings.Trim(id, "0123456789ABCDEF") == ""
}

// revoked returns the revocation of a key, nil if there is none.
func (k *Keyring) revoked(id string) *RevokedKey {
	i := slices.IndexFunc(k.Revoked, func(r RevokedKey) bool { return r.ID == id })
	if i < 0 {
		return nil
	}
	return &k.Revoked[i]
}

// key returns the entry of a key, nil if there is none.
func (k *Keyring) key(id string) *KeyringKey {
	i := slices.IndexFunc(k.Keys, func(key KeyringKey) bool { return key.ID() == id })
	if i < 0 {
		return nil
	}
	return &k.Keys[i]
}

// lists tells whether a key is listed, under whatever id.
func (k *Keyring) lists(key minisign.PublicKey) bool {
	return slices.ContainsFunc(k.Keys, func(listed KeyringKey) bool {
		public, err := listed.public()
		return err == nil && (public.ID() == key.ID() || rawPublic(public) == rawPublic(key))
	})
}

// signer checks a signature by one of the keys, at whatever time it signs,
// and returns that key.
func (k *Keyring) signer(message, signature []byte) (*KeyringKey, error) {
	key, err := k.signing(signature)
	if err != nil {
		return nil, err
	}
	public, err := key.public()
	if err != nil {
		return nil, err
	}
	return key, Trust{Keys: []minisign.PublicKey{public}}.Verify(message, signature)
}

// signing returns the key that a signature says it is by, if it may sign. It
// does not check the signature.
func (k *Keyring) signing(signature []byte) (*KeyringKey, error) {
	id, err := signatureKey(signature)
	if err != nil {
		return nil, err
	}
	// First of all: a revoked key is refused for that, be it listed or not.
	if r := k.revoked(id); r != nil {
		return nil, r.refusal()
	}
	key := k.key(id)
	if key == nil {
		return nil, fmt.Errorf("%w: signed by key %s, keyring %d of %s lists %s: sign with one of these, or have the roots add the key", ErrUntrusted, id, k.Sequence, k.Name, k.ids())
	}
	public, err := key.public()
	if err != nil {
		return nil, err
	}
	if r := k.revokedAs(public); r != nil {
		return nil, r.refusalAs(id)
	}
	return key, nil
}

func (k *Keyring) ids() string {
	ids := make([]string, len(k.Keys))
	for i, key := range k.Keys {
		ids[i] = key.ID()
	}
	if len(ids) == 0 {
		return "none"
	}
	return strings.Join(ids, ", ")
}

// verifyAt checks a signature over message by a key that signs at that time
// and is not revoked.
func (k *Keyring) verifyAt(message, signature []byte, at time.Time) error {
	key, err := k.signer(message, signature)
	if err != nil {
		return err
	}
	if err := key.validAt(at); err != nil {
		return fmt.Errorf("%w: %w: sign with a key that signs now, or set the clock", ErrUntrusted, err)
	}
	return nil
}

// VerifyManifest is Trust.VerifyManifest with the keys of the keyring: the
// signature counts if its key is not revoked and signed at the time at which
// the manifest says that the release was made. That time is the signer's
// word; what keeps a release of a key that has run out from being made later
// is the index, which a key of today has signed.
func (k *Keyring) VerifyManifest(name, version string, raw, signature []byte) (*Manifest, error) {
	key, err := k.signer(raw, signature)
	if err != nil {
		return nil, fmt.Errorf("manifest of %s %s: %w", name, version, err)
	}
	m, err := parseSigned(name, version, raw)
	if err != nil {
		return nil, err
	}
	if err := key.validAt(m.Created); err != nil {
		return nil, fmt.Errorf("manifest of %s %s: %w: %w, when the release was made: publish it again with a key that signed then", name, version, ErrUntrusted, err)
	}
	return m, nil
}

// signatureKey returns the id of the key that a signature says it is by.
func signatureKey(signature []byte) (string, error) {
	if len(signature) > maxSignatureSize {
		return "", fmt.Errorf("%w: the signature has %d bytes, at most %d are read: publish the file again", ErrUntrusted, len(signature), maxSignatureSize)
	}
	var s minisign.Signature
	if err := s.UnmarshalText(signature); err != nil {
		return "", fmt.Errorf("%w: the signature cannot be read: %w: publish the file again", ErrUntrusted, err)
	}
	return keyID(s.KeyID), nil
}
