package release

import (
	"errors"
	"fmt"

	"aead.dev/minisign"
)

// Sign signs message, a document of a publisher that is no part of a
// repository, such as a plugin's manifest. The comment tells people what was
// signed; nothing is decided on it.
//
// The signature says nothing about what kind of document it is of: sign only
// what can be read as one kind alone.
func Sign(key minisign.PrivateKey, message []byte, comment string) []byte {
	return sign(key, message, comment)
}

// VerifyOnHost checks a signature that Sign made, without any repository, and
// returns the id of the key: one of trust, or where trust has roots, of the
// keyring that the host of the state file (trust.json) has accepted last. A key
// that was revoked counts no more; one that has only run out does, for what it
// has signed is of no known time. Its error wraps ErrUntrusted, and ErrNotFound
// too where no keyring was accepted yet.
func VerifyOnHost(stateFile string, trust Trust, message, signature []byte) (keyID string, err error) {
	if len(trust.Roots) == 0 {
		if err := trust.Verify(message, signature); err != nil {
			return "", err
		}
		return signatureKey(signature)
	}
	s, err := readTrustState(stateFile)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	k, err := s.keyring(trust)
	if err != nil {
		if errors.Is(err, ErrNotFound) {
			err = fmt.Errorf("%w: it comes with the first look into a repository", err)
		}
		return "", fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	key, err := k.withRevoked(s).signer(message, signature)
	if err != nil {
		return "", err
	}
	return key.ID(), nil
}
