package release

import (
	"fmt"
	"slices"
	"time"

	"aead.dev/minisign"
)

// NewKeyring returns a draft without keys for a program: Add keys, then
// Issue it.
func NewKeyring(name string) (*Keyring, error) {
	if err := CheckName(name); err != nil {
		return nil, fmt.Errorf("keyring: program: %w", err)
	}
	return &Keyring{Schema: Schema, Name: name}, nil
}

// Add lists a further release key. A key that was ever revoked is refused,
// with ErrRevoked.
func (k *Keyring) Add(key KeyringKey) error {
	public, err := key.public()
	if err != nil {
		return fmt.Errorf("add key: %w", err)
	}
	id := KeyID(public)
	if r := k.revoked(id); r != nil {
		return fmt.Errorf("add key %s: %w at %s (%s), which is for ever: generate another", id, ErrRevoked, stamp(r.Since), r.Reason)
	}
	if r := k.revokedAs(public); r != nil {
		return fmt.Errorf("add key %s: %w at %s (%s) as %s, and it is the same key under another id: generate another", id, ErrRevoked, stamp(r.Since), r.Reason, r.ID)
	}
	if k.key(id) != nil {
		return fmt.Errorf("add key %s: it is listed already", id)
	}
	return k.edit(func(next *Keyring) { next.Keys = append(next.Keys, key) })
}

// Retire ends the time in which a key signs: at that time hosts take no index
// by it any more, while the releases that it signed stay good. It is the way
// of a planned change of keys.
func (k *Keyring) Retire(id string, at time.Time) error {
	if k.key(id) == nil {
		return fmt.Errorf("retire key %.40s: %w: the keyring lists %s", id, ErrNotFound, k.ids())
	}
	return k.edit(func(next *Keyring) { next.key(id).NotAfter = at.UTC().Truncate(time.Second) })
}

// Revoke takes all worth from a key's signatures, for ever, whenever they
// were made. It need not be listed. Releases that it signed must be published
// again with another key. It is the answer to a key that was stolen.
//
// Of a key that is listed the revocation tells the key itself, so that it is
// refused under every id. Of another one it tells the id alone: see RevokeKey.
func (k *Keyring) Revoke(id, reason string, since time.Time) error {
	if gone := k.revoked(id); gone != nil {
		return gone.already()
	}
	text := ""
	if listed := k.key(id); listed != nil {
		text = listed.Key
	}
	return k.edit(func(next *Keyring) {
		next.strike(RevokedKey{ID: id, Key: text, Since: since, Reason: reason})
	})
}

// RevokeKey is Revoke for a key that is at hand. Of one that was revoked by its
// id alone it adds the key to the revocation, which else stays as it is. Where the
// same key is listed under another id, it is revoked under that one, too, in an
// entry of its own: whoever makes a key file chooses its id.
func (k *Keyring) RevokeKey(key minisign.PublicKey, reason string, since time.Time) error {
	id := KeyID(key)
	if listed := k.key(id); listed != nil && listed.Key != key.String() {
		return fmt.Errorf("revoke key %s: the keyring lists another key with that id, %s: give that one", id, listed.Key)
	}
	if gone := k.revoked(id); gone != nil && gone.Key != "" {
		return gone.already()
	}
	return k.edit(func(next *Keyring) {
		for _, listed := range k.Keys {
			if public, err := listed.public(); err == nil && rawPublic(public) == rawPublic(key) && public.ID() != key.ID() {
				next.strike(RevokedKey{ID: KeyID(public), Key: listed.Key, Since: since, Reason: reason})
			}
		}
		if gone := next.revoked(id); gone != nil {
			gone.Key = key.String()
			return
		}
		next.strike(RevokedKey{ID: id, Key: key.String(), Since: since, Reason: reason})
	})
}

func (r RevokedKey) already() error {
	return fmt.Errorf("revoke key %s: it was revoked at %s (%s)", r.ID, stamp(r.Since), r.Reason)
}

// strike moves a key to the revoked ones.
func (k *Keyring) strike(r RevokedKey) {
	r.Since = r.Since.UTC().Truncate(time.Second)
	k.Keys = slices.DeleteFunc(k.Keys, func(key KeyringKey) bool { return key.ID() == r.ID })
	k.Revoked = append(k.Revoked, r)
}

// edit changes k as a whole or not at all.
func (k *Keyring) edit(change func(*Keyring)) error {
	next := *k
	next.Keys, next.Revoked = slices.Clone(k.Keys), slices.Clone(k.Revoked)
	change(&next)
	if err := next.validateKeys(); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	*k = next
	return nil
}

// Issue gives the keyring the next sequence and the time for which it is
// valid, and returns the document that the roots sign: byte for byte, so it
// must not be formatted anew. The same keyring always gives the same bytes.
func (k *Keyring) Issue(now time.Time, validity time.Duration) ([]byte, error) {
	if k.Sequence >= maxSequence {
		return nil, fmt.Errorf("keyring: sequence %d cannot grow any more: begin anew with other roots", k.Sequence)
	}
	if validity < time.Second {
		return nil, fmt.Errorf("keyring: validity %v is shorter than a second", validity)
	}
	next := *k
	next.Schema = Schema
	next.Sequence++
	next.Issued = now.UTC().Truncate(time.Second)
	if next.Issued.Before(k.Issued) {
		next.Issued = k.Issued // the clock went back; the keyring must not
	}
	next.Expires = next.Issued.Add(validity).Truncate(time.Second)
	raw, err := encodeDocument(&next)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	if _, err := ParseKeyring(raw); err != nil {
		return nil, err
	}
	*k = next
	return raw, nil
}

// SignKeyring signs a keyring's document with a root key, which may be on a
// machine of its own: the plain minisign command does the same. It refuses
// what is no keyring, so that a root never signs anything else.
func SignKeyring(document []byte, root minisign.PrivateKey) ([]byte, error) {
	k, err := ParseKeyring(document)
	if err != nil {
		return nil, fmt.Errorf("not signed: %w", err)
	}
	public, err := publicKey(root)
	if err != nil {
		return nil, err
	}
	if k.lists(public) {
		return nil, fmt.Errorf("not signed: key %s is listed to sign releases, so it is no root: give a root key", KeyID(public))
	}
	return signAs(root, document, fmt.Sprintf("%s keyring %d", k.Name, k.Sequence), "root"), nil
}
