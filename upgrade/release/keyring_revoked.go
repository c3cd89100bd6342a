package release

import (
	"fmt"
	"slices"

	"aead.dev/minisign"
)

// ReadRevoked returns the keys that the host of a state file (trust.json) has
// ever heard to be revoked, none where there is no file. When and why is known
// of those that the keyring in force tells. It is for tools that show it:
// nothing is verified again.
func ReadRevoked(stateFile string) ([]RevokedKey, error) {
	s, err := readTrustState(stateFile)
	if err != nil {
		return nil, err
	}
	k := new(Keyring)
	if s.Keyring != nil {
		if k, err = ParseKeyring(s.Keyring.Document); err != nil {
			return nil, err
		}
	}
	return k.withRevoked(s).Revoked, nil
}

// public is the key that was revoked; the zero key where only its id is known.
func (r RevokedKey) public() (minisign.PublicKey, error) {
	if r.Key == "" {
		return minisign.PublicKey{}, nil
	}
	return KeyringKey{Key: r.Key}.public()
}

// refusal says why a signature by the key does not count.
func (r RevokedKey) refusal() error { return r.refusalAs(r.ID) }

// refusalAs is refusal for a signature under another id.
func (r RevokedKey) refusalAs(id string) error {
	when, why := "", ""
	if id != r.ID {
		id += ", the key " + r.ID + " under another id"
	}
	if !r.Since.IsZero() {
		when = " at " + stamp(r.Since)
	}
	if r.Reason != "" {
		why = fmt.Sprintf(" (%.200s)", shown(r.Reason))
	}
	return fmt.Errorf("%w: %w: signed by key %s, which was revoked%s%s: let the publisher sign with a key that is listed", ErrUntrusted, ErrRevoked, id, when, why)
}

// revokedAs returns the revocation of the same key, under whatever id; nil if
// there is none, or if none tells more than an id.
func (k *Keyring) revokedAs(key minisign.PublicKey) *RevokedKey {
	for i, r := range k.Revoked {
		if gone, err := r.public(); err == nil && r.Key != "" && rawPublic(gone) == rawPublic(key) {
			return &k.Revoked[i]
		}
	}
	return nil
}

// withRevoked returns the keyring with all that this host has ever revoked.
func (k *Keyring) withRevoked(s trustState) *Keyring {
	const earlier = "by an earlier keyring"
	all := *k
	all.Revoked = slices.Clone(k.Revoked)
	for _, id := range s.Revoked {
		if k.revoked(id) == nil {
			all.Revoked = append(all.Revoked, RevokedKey{ID: id, Reason: earlier})
		}
	}
	for _, text := range s.RevokedKeys {
		id := KeyringKey{Key: text}.ID()
		switch r := all.revoked(id); {
		case r == nil || r.Key != "" && r.Key != text:
			all.Revoked = append(all.Revoked, RevokedKey{ID: id, Key: text, Reason: earlier})
		case r.Key == "":
			r.Key = text
		}
	}
	return &all
}
