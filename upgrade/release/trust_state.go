package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/ident"
	"github.com/perennial-go/perennial/internal/strictjson"
)

const maxTrustStateSize = 256 << 10

// seenStep keeps the last-seen time from being written at every look.
const seenStep = time.Hour

// trustState is what a host remembers of the indexes it has accepted, so
// that nobody can take it back in time. It is kept on the host only.
type trustState struct {
	// Name is the program whose index it is about.
	Name string `json:"name"`
	// Sequence is the highest sequence accepted.
	Sequence int64 `json:"sequence"`
	// Index is the SHA-256 of the index with that sequence.
	Index string `json:"index"`
	// Seen is the latest time at which an index was accepted.
	Seen time.Time `json:"seen"`
	// Keyring is the keyring in force; nil while there is none.
	Keyring *signedKeyring `json:"keyring,omitempty"`
	// Revoked holds the ids of all keys that a keyring accepted on this host
	// has ever revoked.
	Revoked []string `json:"revoked,omitempty"`
	// RevokedKeys holds those of them that were told, as minisign public keys.
	RevokedKeys []string `json:"revoked_keys,omitempty"`
	// Marks says which key has signed the indexes of the highest sequences.
	Marks []mark `json:"marks,omitempty"`

	// raw holds every member of the file. Another release of the program
	// may have written more than this one knows, and must find it again.
	raw map[string]json.RawMessage
}

// readTrustState returns the zero state for a file that is not there. A file
// that cannot be understood is an error: to take it for absent would let
// whoever damages it replay old indexes.
func readTrustState(path string) (trustState, error) {
	if path == "" {
		return trustState{}, nil
	}
	data, err := atomicfile.Read(path, maxTrustStateSize)
	if errors.Is(err, fs.ErrNotExist) {
		return trustState{}, nil
	}
	if err != nil {
		return trustState{}, fmt.Errorf("trust state: %w", err)
	}
	s, err := parseTrustState(data)
	if err != nil {
		return trustState{}, fmt.Errorf("trust state %s: %w: restore it, or delete it to forget which indexes this host has seen", path, err)
	}
	return s, nil
}

func parseTrustState(data []byte) (trustState, error) {
	var s trustState
	if err := decodeDocument("file", data, maxTrustStateSize, &s); err != nil {
		return trustState{}, err
	}
	if s.Sequence < 0 || s.Sequence > maxSequence || (s.Sequence > 0 && (!ident.SHA256(s.Index) || CheckName(s.Name) != nil)) {
		return trustState{}, errors.New("its name, sequence and index digest do not make sense")
	}
	if err := s.validateKeyring(); err != nil {
		return trustState{}, err
	}
	if s.Keyring != nil && len(s.Keyring.Document) == 0 {
		s.Keyring = nil // what another release calls so
	}
	err := json.Unmarshal(data, &s.raw)
	return s, err
}

// encode returns the file's content, with the members of other releases.
func (s trustState) encode() ([]byte, error) {
	own := map[string]any{
		"schema": Schema, "name": s.Name, "sequence": s.Sequence, "index": s.Index, "seen": s.Seen.UTC().Truncate(time.Second),
	}
	s.addKeyring(own)
	all := map[string]any{}
	for k, v := range s.raw {
		// The same name in another case would make the file unreadable.
		if _, known := own[strictjson.Fold(k)]; !known {
			all[k] = v
		}
	}
	maps.Copy(all, own)
	return encodeDocument(all)
}

func (s trustState) write(path string) error {
	if path == "" {
		return nil
	}
	data, err := s.encode()
	if err != nil {
		return fmt.Errorf("trust state: %w", err)
	}
	if err := atomicfile.Write(path, data, 0o600); err != nil {
		return fmt.Errorf("trust state cannot be saved, so the index is not used: %w", writeError(err))
	}
	return nil
}

// now returns the later of the clock and the last time seen, so that a clock
// set back does not make an expired index current again.
func (s trustState) now(clock time.Time) time.Time {
	if s.Seen.After(clock) {
		return s.Seen
	}
	return clock
}

// check decides whether an index that is signed and for the right program
// may be used now.
func (s trustState) check(x *Index, digest string, clock time.Time) error {
	if s.Sequence > 0 && s.Name != x.Name {
		return fmt.Errorf("the trust state is about %s, the index about %s: give each program a state directory of its own", s.Name, x.Name)
	}
	switch {
	case x.Sequence < s.Sequence:
		return fmt.Errorf("%w: found the index of %s with sequence %d, this host has accepted %d: the repository is out of date or a mirror replays an old state; use a current one", ErrReplay, x.Name, x.Sequence, s.Sequence)
	case x.Sequence == s.Sequence && digest != s.Index:
		return fmt.Errorf("%w: two different indexes of %s are signed with sequence %d: the repository was copied and published to twice; publish once more to the right one", ErrReplay, x.Name, x.Sequence)
	}
	if now := s.now(clock); !now.Before(x.Expires) {
		hint := "let the publisher sign it again, or use a current mirror"
		if now.After(clock) {
			hint += fmt.Sprintf("; the clock says %s, but this host has seen %s: set the clock", stamp(clock), stamp(now))
		}
		return fmt.Errorf("%w: the index of %s expired at %s, it is %s: %s", ErrExpired, x.Name, stamp(x.Expires), stamp(now), hint)
	}
	return nil
}

// take is check and accept for an index that keys have verified, by the
// signature. What another process has accepted meanwhile counts: a key that it
// has heard to be revoked, under whatever id, has signed nothing.
func (s trustState) take(x *Index, digest string, keys signers, signature []byte, clock time.Time) (next trustState, changed bool, err error) {
	var signer *KeyringKey
	forgotten := false
	if keyring, ok := keys.(*Keyring); ok {
		keyring = keyring.withRevoked(s)
		if signer, err = keyring.signing(signature); err != nil {
			return s, false, err
		}
		marks := len(s.Marks)
		s = s.forget(keyring)
		forgotten = len(s.Marks) < marks
	}
	if err := s.check(x, digest, clock); err != nil {
		return s, false, err
	}
	next, changed = s.accept(x, digest, clock)
	if signer != nil {
		next = next.mark(s, signer)
		// A key that became known is written with the next change.
		changed = changed || forgotten || !slices.Equal(next.Marks, s.Marks)
	}
	return next, changed, nil
}

// accept returns the state after an index has passed check, and whether it
// is worth writing. The last-seen time stays before the index's expiry: a
// clock that was wrong for a while cannot lock the host out for longer than
// an index is valid.
func (s trustState) accept(x *Index, digest string, clock time.Time) (trustState, bool) {
	changed := s.Sequence != x.Sequence || s.Index != digest || clock.Sub(s.Seen) >= seenStep
	s.Name, s.Sequence, s.Index, s.Seen = x.Name, x.Sequence, digest, s.now(clock)
	return s, changed
}
