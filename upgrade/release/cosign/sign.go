package cosign

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// PrivateKey makes signatures. It is safe for concurrent use.
type PrivateKey struct {
	key    *ecdsa.PrivateKey
	public *PublicKey
}

// NewPrivateKey returns the key for signing. It refuses other curves than
// P-256.
func NewPrivateKey(key *ecdsa.PrivateKey) (*PrivateKey, error) {
	if key == nil {
		return nil, errors.New("cosign key: there is none")
	}
	public, err := NewPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	return &PrivateKey{key: key, public: public}, nil
}

// Public returns the key for checking.
func (k *PrivateKey) Public() *PublicKey { return k.public }

// SignPayload makes the older form for the digest of s and its first
// repository, with its annotations.
func (k *PrivateKey) SignPayload(s Subject) (raw []byte, signature string, err error) {
	if len(s.Repositories) == 0 {
		return nil, "", errors.New("cosign payload: it names a repository: give one")
	}
	p := payload{Optional: s.signed()}
	p.Critical.Type = payloadType
	p.Critical.Image.Digest = s.Digest
	p.Critical.Identity.Reference = s.Repositories[0]
	if raw, err = json.Marshal(p); err != nil {
		return nil, "", fmt.Errorf("cosign payload: %w", err)
	}
	signature, err = k.sign(raw)
	return raw, signature, err
}

// SignBundle makes the newer form for the digest of s, with its annotations.
func (k *PrivateKey) SignBundle(s Subject) ([]byte, error) {
	signed, err := json.Marshal(statement{
		Type:          "https://in-toto.io/Statement/v1",
		Subject:       []subject{{Digest: map[string]string{"sha256": strings.TrimPrefix(s.Digest, "sha256:")}, Annotations: s.signed()}},
		PredicateType: PredicateSign,
		Predicate:     json.RawMessage("{}"),
	})
	if err != nil {
		return nil, fmt.Errorf("cosign statement: %w", err)
	}
	sig, err := k.sign(preAuthentication(statementType, signed))
	if err != nil {
		return nil, err
	}
	return json.Marshal(bundle{
		MediaType:    MediaTypeBundle,
		Verification: material{PublicKey: &publicKey{Hint: k.public.hint}},
		Envelope: &envelope{
			Payload:     base64.StdEncoding.EncodeToString(signed),
			PayloadType: statementType,
			Signatures:  []signature{{Sig: sig}},
		},
	})
}

func (s Subject) signed() map[string]any {
	annotations := make(map[string]any, len(s.Annotations))
	for name, value := range s.Annotations {
		annotations[name] = value
	}
	return annotations
}

func (k *PrivateKey) sign(message []byte) (string, error) {
	sum := sha256.Sum256(message)
	der, err := ecdsa.SignASN1(rand.Reader, k.key, sum[:])
	if err != nil {
		return "", fmt.Errorf("cosign signature: %w", err)
	}
	return base64.StdEncoding.EncodeToString(der), nil
}
