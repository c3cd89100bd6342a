package release

import (
	"fmt"
	"strings"

	"aead.dev/minisign"
)

// Signer says who signed a document, as its signature tells.
type Signer struct {
	// Key is the id of the key, as minisign prints it.
	Key string `json:"key"`
	// Comment is the trusted comment, which the signature covers, with spaces
	// for tabs.
	Comment string `json:"comment,omitempty"`
}

// ReadSigner reads who made a minisign signature. It verifies nothing: what it
// returns is a claim until Trust.Verify has passed.
func ReadSigner(signature []byte) (Signer, error) {
	if len(signature) > maxSignatureSize {
		return Signer{}, fmt.Errorf("the signature has %d bytes, at most %d are read", len(signature), maxSignatureSize)
	}
	var s minisign.Signature
	if err := s.UnmarshalText(signature); err != nil {
		return Signer{}, fmt.Errorf("the signature cannot be read: %w", err)
	}
	// The minisign command puts tabs between the parts of its own comment.
	comment := strings.ReplaceAll(s.TrustedComment, "\t", " ")
	if !printable(comment) {
		return Signer{}, fmt.Errorf("the signature's trusted comment %.100q is not printable", s.TrustedComment)
	}
	return Signer{Key: keyID(s.KeyID), Comment: comment}, nil
}
