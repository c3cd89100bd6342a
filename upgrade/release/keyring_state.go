package release

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"aead.dev/minisign"

	"github.com/perennial-go/perennial/internal/ident"
)

const (
	// maxMarks bounds the marks of a trust state.
	maxMarks = 2 * maxKeyringKeys
	// maxEverRevoked bounds the keys that a host remembers as revoked.
	maxEverRevoked = 4 * maxRevoked
)

// signedKeyring is a keyring as it is kept in trust.json: the bytes and the
// signatures that counted, so that they can be checked against other roots,
// which a later release of the program may have.
type signedKeyring struct {
	Sequence   int64    `json:"sequence"` // for people; the document's counts
	Document   []byte   `json:"document,omitempty"`
	Signatures [][]byte `json:"signatures,omitempty"`

	parsed *Keyring
}

// mark is the highest index that a key of the keyring has signed. When the
// key is revoked its mark goes with it: whoever stole the key may have signed
// the largest sequence that there is.
type mark struct {
	// Key is the signer's id; empty for what was accepted without a keyring.
	Key      string `json:"key,omitempty"`
	Sequence int64  `json:"sequence"`
	Index    string `json:"index"`
	// PublicKey is the signer itself, since it may be revoked under another id.
	// Empty in what older releases wrote.
	PublicKey string `json:"public_key,omitempty"`
}

// public is the key that has signed; ok is false where only its id is known.
func (m mark) public() (key minisign.PublicKey, ok bool) {
	key, err := KeyringKey{Key: m.PublicKey}.public()
	return key, err == nil
}

// revokedBy tells whether the keyring revokes the key of the mark, under
// whatever id.
func (m mark) revokedBy(k *Keyring) bool {
	if k.revoked(m.Key) != nil {
		return true
	}
	public, ok := m.public()
	return ok && k.revokedAs(public) != nil
}

// marksBy returns the marks with the keys that a keyring lists, where only their
// ids are known.
func (s trustState) marksBy(k *Keyring) []mark {
	marks := slices.Clone(s.Marks)
	for i, m := range marks {
		if m.PublicKey != "" {
			continue
		}
		if listed := k.key(m.Key); listed != nil {
			marks[i].PublicKey = listed.Key
		}
	}
	return marks
}

// keyring returns the keyring that is kept, if these roots have signed it. If
// not, the program has other roots than the one that accepted it, and nothing
// of it counts but its revocations, which are kept beside it.
func (s trustState) keyring(trust Trust) (*Keyring, error) {
	if s.Keyring == nil {
		return nil, fmt.Errorf("%w: no keyring was accepted yet", ErrNotFound)
	}
	return trust.VerifyKeyring(s.Keyring.Document, s.Keyring.Signatures...)
}

// acceptKeyring returns the state with another keyring in force.
func (s trustState) acceptKeyring(k *signedKeyring) (trustState, error) {
	if (s.Sequence > 0 || s.Keyring != nil) && s.Name != k.parsed.Name {
		return s, fmt.Errorf("the trust state is about %s, the keyring about %s: give each program a state directory of its own", s.Name, k.parsed.Name)
	}
	if s.Keyring != nil {
		// The next one may not list the keys any more.
		if before, err := ParseKeyring(s.Keyring.Document); err == nil {
			s.Marks = s.marksBy(before)
		}
	}
	s.Name, s.Keyring = k.parsed.Name, k
	s.Revoked = slices.Clone(s.Revoked)
	s.RevokedKeys = slices.Clone(s.RevokedKeys)
	for _, r := range k.parsed.Revoked {
		if !slices.Contains(s.Revoked, r.ID) {
			s.Revoked = append(s.Revoked, r.ID)
		}
		if r.Key != "" && !slices.Contains(s.RevokedKeys, r.Key) {
			s.RevokedKeys = append(s.RevokedKeys, r.Key)
		}
	}
	if len(s.RevokedKeys) > maxEverRevoked {
		return s, fmt.Errorf("%w: this host would remember %d revoked keys, at most %d are kept: let the roots sign a keyring that revokes fewer", ErrUntrusted, len(s.RevokedKeys), maxEverRevoked)
	}
	if len(s.Revoked) > maxEverRevoked {
		return s, fmt.Errorf("%w: this host would remember %d revoked keys, at most %d are kept: let the roots sign a keyring that revokes fewer", ErrUntrusted, len(s.Revoked), maxEverRevoked)
	}
	return s, nil
}

// learnsFrom reports whether the keyring tells of a revocation what is not kept
// yet. Of the one in force it does where an older release has accepted it.
func (s trustState) learnsFrom(k *Keyring) bool {
	return slices.ContainsFunc(k.Revoked, func(r RevokedKey) bool {
		return !slices.Contains(s.Revoked, r.ID) || r.Key != "" && !slices.Contains(s.RevokedKeys, r.Key)
	})
}

// forget drops the marks of revoked keys. The highest of the others is the
// state's sequence then, if it was a revoked key's.
func (s trustState) forget(k *Keyring) trustState {
	top := mark{Sequence: -1}
	var kept []mark
	dropped := false
	for _, m := range s.marksBy(k) {
		if m.revokedBy(k) {
			dropped = dropped || m.Sequence == s.Sequence && m.Index == s.Index
			continue
		}
		kept = append(kept, m)
		if m.Sequence > top.Sequence {
			top = m
		}
	}
	s.Marks = kept
	if dropped {
		s.Sequence, s.Index = max(top.Sequence, 0), top.Index
	}
	return s
}

// mark notes that a key has signed the index that was just accepted. What was
// accepted before and has no mark gets one without a key: no revocation
// takes it back.
func (s trustState) mark(before trustState, key *KeyringKey) trustState {
	s.Marks = slices.Clone(before.Marks)
	known := slices.ContainsFunc(s.Marks, func(m mark) bool { return m.Sequence == before.Sequence && m.Index == before.Index })
	if before.Sequence > 0 && !known {
		s.Marks = setMark(s.Marks, mark{Sequence: before.Sequence, Index: before.Index})
	}
	s.Marks = setMark(s.Marks, mark{Key: key.ID(), Sequence: s.Sequence, Index: s.Index, PublicKey: key.Key})
	slices.SortFunc(s.Marks, func(a, b mark) int {
		return cmp.Or(cmp.Compare(b.Sequence, a.Sequence), cmp.Compare(a.Key, b.Key))
	})
	s.Marks = s.Marks[:min(len(s.Marks), maxMarks)]
	return s
}

func setMark(marks []mark, m mark) []mark {
	marks = slices.DeleteFunc(marks, func(other mark) bool { return other.Key == m.Key })
	return append(marks, m)
}

// addKeyring adds the members of the file that are about keys. Members that
// became empty go; a keyring that this release cannot read stays as it is.
func (s trustState) addKeyring(members map[string]any) {
	if s.Keyring != nil {
		members["keyring"] = s.Keyring
	}
	if _, there := s.raw["revoked"]; there || len(s.Revoked) > 0 {
		members["revoked"] = s.Revoked
	}
	if _, there := s.raw["revoked_keys"]; there || len(s.RevokedKeys) > 0 {
		members["revoked_keys"] = s.RevokedKeys
	}
	if _, there := s.raw["marks"]; there || len(s.Marks) > 0 {
		members["marks"] = s.Marks
	}
}

// validateKeyring checks the members of a trust state that are about keys.
func (s trustState) validateKeyring() error {
	if len(s.Marks) > maxMarks || max(len(s.Revoked), len(s.RevokedKeys)) > maxEverRevoked {
		return errors.New("it has too many marks or revoked keys")
	}
	for _, m := range s.Marks {
		if m.Sequence < 1 || m.Sequence > maxSequence || !ident.SHA256(m.Index) || (m.Key != "" && !validKeyID(m.Key)) {
			return errors.New("its marks do not make sense")
		}
		if public, ok := m.public(); m.PublicKey != "" && (!ok || KeyID(public) != m.Key) {
			return errors.New("its marks do not make sense")
		}
	}
	for _, text := range s.RevokedKeys {
		if _, err := (KeyringKey{Key: text}).public(); err != nil {
			return errors.New("its revoked keys do not make sense")
		}
	}
	for _, id := range s.Revoked {
		if !validKeyID(id) {
			return errors.New("its revoked keys do not make sense")
		}
	}
	return nil
}
