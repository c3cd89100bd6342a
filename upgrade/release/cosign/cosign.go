// Package cosign checks and makes the signatures that the cosign command
// makes and checks with a key pair, without a network: bytes in, verdict out.
// Package oci finds them in a registry and binds them to a release.
//
// Two forms are known. The older one is a "simple signing" payload, which
// names the digest and the repository of the signed image, and an ECDSA
// signature beside it. The newer one is a Sigstore bundle: a DSSE envelope
// around an in-toto statement, which names the digest alone. A statement can
// be anything, a test report for example: only one whose predicate type is
// PredicateSign is a signature. (The cosign command takes an attestation for
// a signature; this package does not.)
//
// Neither form binds what the image is called or which version it is. A
// signature says that the owner of the key saw these bytes, and no more: what
// they are must be read out of the signed bytes themselves.
//
// Only ECDSA on the curve P-256 with SHA-256 is taken, the one kind of key
// that cosign generate-key-pair makes. Certificates (keyless signatures),
// transparency logs and timestamps are not looked at. No input is read beyond
// the bounds below.
package cosign

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Names that others gave.
const (
	// MediaTypePayload is the media type of a payload.
	MediaTypePayload = "application/vnd.dev.cosign.simplesigning.v1+json"
	// AnnotationSignature is where the signature of a payload is kept.
	AnnotationSignature = "dev.cosignproject.cosign/signature"
	// MediaTypeBundle is the media type of a bundle.
	MediaTypeBundle = "application/vnd.dev.sigstore.bundle.v0.3+json"
	// PredicateSign is the predicate type of a statement that is a signature.
	PredicateSign = "https://sigstore.dev/cosign/sign/v1"

	payloadType   = "cosign container image signature"
	statementType = "application/vnd.in-toto+json"
)

// Bounds of what is read, in bytes.
const (
	MaxPayloadSize = 64 << 10
	MaxBundleSize  = 256 << 10

	maxKeySize       = 16 << 10
	maxSignatureSize = 1 << 10
	maxDepth         = 16
)

// ErrSignature is wrapped by every refusal of a signature.
var ErrSignature = errors.New("no good cosign signature")

// Subject says what a signature must be of.
type Subject struct {
	// Digest is that of the signed manifest: "sha256:" and 64 hexadecimal
	// digits.
	Digest string
	// Repositories are those that a payload may have been made for, such as
	// "registry.example.com/agentd". None takes any. Bundles name none.
	Repositories []string
	// Annotations are compared with those that were signed: a signature may
	// lack one, but must not have it with another value.
	Annotations map[string]string
}

// PublicKey checks signatures. It is safe for concurrent use.
type PublicKey struct {
	key  *ecdsa.PublicKey
	hint string
}

// NewPublicKey returns the key for checking. It refuses other curves than
// P-256.
func NewPublicKey(key *ecdsa.PublicKey) (*PublicKey, error) {
	if key == nil || key.Curve != elliptic.P256() {
		return nil, errors.New("cosign key: want one of ECDSA on the curve P-256, as cosign generate-key-pair makes it")
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("cosign key: %w", err)
	}
	sum := sha256.Sum256(der)
	return &PublicKey{key: key, hint: base64.StdEncoding.EncodeToString(sum[:])}, nil
}

// LoadPublicKey reads a cosign.pub.
func LoadPublicKey(path string) (key *PublicKey, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cosign key: %w: give the cosign.pub of the publisher", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	text, err := io.ReadAll(io.LimitReader(f, maxKeySize+1))
	if err != nil {
		return nil, fmt.Errorf("cosign key: %w", err)
	}
	key, err = ParsePublicKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// ParsePublicKey reads the text of a cosign.pub: one PEM block.
func ParsePublicKey(text []byte) (*PublicKey, error) {
	if len(text) > maxKeySize {
		return nil, fmt.Errorf("cosign key: more than %d bytes: give a cosign.pub", maxKeySize)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, errors.New("cosign key: want one PEM block with a PUBLIC KEY: give a cosign.pub, not a private key")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("cosign key: %w", err)
	}
	key, _ := parsed.(*ecdsa.PublicKey)
	return NewPublicKey(key)
}

// Hint names the key as bundles do: the base64 SHA-256 of its DER form.
func (k *PublicKey) Hint() string { return k.hint }

// verify checks a base64 signature over message.
func (k *PublicKey) verify(message []byte, signature string) error {
	if signature == "" || len(signature) > maxSignatureSize {
		return refuse("the signature has %d characters, want 1 to %d", len(signature), maxSignatureSize)
	}
	der, err := base64.StdEncoding.Strict().DecodeString(signature)
	if err != nil {
		return refuse("the signature is not base64: %w", err)
	}
	sum := sha256.Sum256(message)
	if !ecdsa.VerifyASN1(k.key, sum[:], der) {
		return refuse("it is by another key than %s, or what it signs was changed: ask the publisher for the right cosign.pub", k.hint)
	}
	return nil
}

// checkAnnotations compares what was signed with what is wanted.
func (s Subject) checkAnnotations(signed map[string]any) error {
	for name, want := range s.Annotations {
		if got, ok := signed[name]; ok && got != want {
			return refuse("it was made for %s %.200q, wanted is %q", name, fmt.Sprint(got), want)
		}
	}
	return nil
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrSignature, fmt.Errorf(format, args...))
}
