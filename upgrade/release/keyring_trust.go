package release

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"aead.dev/minisign"
)

const (
	// maxRoots bounds how many signatures of a keyring are looked for.
	maxRoots = 16
	// maxKeyringSignature bounds one of them, in bytes.
	maxKeyringSignature = 2 << 10
	// maxKeyringSignatures bounds how many are tried.
	maxKeyringSignatures = 2 * maxRoots
)

// LoadRoots reads a file of root keys, one a line. A threshold of 0 is more
// than half of them.
func LoadRoots(path string, threshold int) (Trust, error) {
	loaded, err := LoadTrust(path)
	if err != nil {
		return Trust{}, err
	}
	trust := Trust{Roots: loaded.Keys, Threshold: threshold}
	return trust, trust.validate()
}

// validate finds what makes a trust useless or weaker than it looks.
func (t Trust) validate() error {
	switch {
	case len(t.Keys) == 0 && len(t.Roots) == 0:
		return errNoTrust()
	case len(t.Keys) > 0 && len(t.Roots) > 0:
		return errors.New("trust has keys and roots: give roots, whose keyring lists the keys, or keys alone")
	case len(t.Roots) == 0 && t.Threshold != 0:
		return fmt.Errorf("trust has a threshold of %d and no roots: give the roots", t.Threshold)
	}
	return t.validateRoots()
}

func (t Trust) validateRoots() error {
	if len(t.Roots) == 0 {
		return nil
	}
	if len(t.Roots) > maxRoots {
		return fmt.Errorf("trust has %d roots, at most %d are read", len(t.Roots), maxRoots)
	}
	for i, root := range t.Roots {
		for _, other := range t.Roots[:i] {
			// Key material under another id would make one root count twice.
			if root.ID() == other.ID() || rawPublic(root) == rawPublic(other) {
				return fmt.Errorf("root key %s is given twice: a threshold counts each root once", keyID(root.ID()))
			}
		}
	}
	if t.Threshold < 0 || t.Threshold > len(t.Roots) {
		return fmt.Errorf("threshold %d of %d roots: want 1 to %d", t.Threshold, len(t.Roots), len(t.Roots))
	}
	return nil
}

// rawPublic is the key without its algorithm and id.
func rawPublic(key minisign.PublicKey) string {
	const head = 2 + 8
	raw, err := base64.StdEncoding.DecodeString(key.String())
	if err != nil || len(raw) < head {
		return key.String()
	}
	return string(raw[head:])
}

// Needed is the number of roots that must sign a keyring: the Threshold, or
// its default.
func (t Trust) Needed() int {
	if t.Threshold > 0 {
		return t.Threshold
	}
	return len(t.Roots)/2 + 1
}

// VerifyKeyring checks that enough of the roots have signed the document, and
// parses it after that. Each root counts once, in whatever order the
// signatures come; those of others, and those that do not match, count
// nothing. Its error wraps ErrUntrusted where signatures are the cause.
func (t Trust) VerifyKeyring(document []byte, signatures ...[]byte) (*Keyring, error) {
	k, _, err := t.verifyKeyring(document, signatures)
	return k, err
}

// verifyKeyring also returns the signatures that counted.
func (t Trust) verifyKeyring(document []byte, signatures [][]byte) (*Keyring, [][]byte, error) {
	if len(t.Roots) == 0 {
		return nil, nil, fmt.Errorf("%w: a keyring is signed by root keys and none is configured: give the roots", ErrUntrusted)
	}
	if err := t.validateRoots(); err != nil {
		return nil, nil, err
	}
	if len(document) > MaxKeyringSize {
		return nil, nil, fmt.Errorf("keyring has %d bytes, at most %d are read", len(document), MaxKeyringSize)
	}
	good, signed, refused := t.countRoots(document, signatures)
	if len(good) < t.Needed() {
		return nil, nil, t.below(signed, len(signatures), refused)
	}
	k, err := ParseKeyring(document)
	if err != nil {
		return nil, nil, fmt.Errorf("the keyring is signed, but cannot be used: %w", err)
	}
	for _, root := range t.Roots {
		if k.lists(root) {
			return nil, nil, fmt.Errorf("%w: the keyring lists the root %s as a release key: roots sign keyrings alone; list other keys", ErrUntrusted, KeyID(root))
		}
	}
	return k, good, nil
}

// SignedBy returns the ids of the roots, or else the keys, that have signed
// message, each once: for tools that collect signatures and show who is
// missing. Nothing follows from it; VerifyKeyring decides.
func (t Trust) SignedBy(message []byte, signatures ...[]byte) []string {
	if len(t.Roots) == 0 {
		t.Roots = t.Keys
	}
	_, signed, _ := t.countRoots(message, signatures)
	return signed
}

// countRoots returns the good signatures, at most one a root, with the ids of
// those roots, and why the first of the others does not count.
func (t Trust) countRoots(document []byte, signatures [][]byte) (good [][]byte, signed []string, refused error) {
	for i, signature := range signatures {
		if i == maxKeyringSignatures || len(good) == len(t.Roots) {
			break
		}
		id, err := signatureKey(signature)
		if err == nil && len(signature) > maxKeyringSignature {
			err = fmt.Errorf("%w: a signature of %d bytes, at most %d are read", ErrUntrusted, len(signature), maxKeyringSignature)
		}
		if err == nil && slices.Contains(signed, id) {
			continue // the same root again
		}
		if err == nil {
			err = Trust{Keys: t.Roots}.Verify(document, signature)
		}
		if err != nil {
			if refused == nil {
				refused = err
			}
			continue
		}
		good, signed = append(good, signature), append(signed, id)
	}
	return good, signed, refused
}

func (t Trust) below(signed []string, found int, refused error) error {
	what, advice := "no root has signed it", ": let more roots sign it"
	if len(signed) > 0 {
		what = "signed by " + strings.Join(signed, ", ") + " alone"
	}
	if found == 0 {
		what = "it is not signed"
	}
	if refused != nil {
		what += fmt.Sprintf("; a signature does not count: %v", refused)
		advice = "" // that sentence has its own, and the document may be another than the roots have seen
	}
	return fmt.Errorf("%w: the keyring wants signatures by %d of the %d roots %s: %s%s", ErrUntrusted, t.Needed(), len(t.Roots), t, what, advice)
}
