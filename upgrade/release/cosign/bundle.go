package cosign

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

// bundle is what is read and written of a Sigstore bundle, version 0.3.
type bundle struct {
	MediaType    string    `json:"mediaType"`
	Verification material  `json:"verificationMaterial"`
	Envelope     *envelope `json:"dsseEnvelope,omitempty"`
}

type material struct {
	PublicKey *publicKey `json:"publicKey,omitempty"`
}

type publicKey struct {
	Hint string `json:"hint,omitempty"`
}

type envelope struct {
	Payload     string      `json:"payload"`
	PayloadType string      `json:"payloadType"`
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	Sig string `json:"sig"`
}

// statement is an in-toto statement.
type statement struct {
	Type          string          `json:"_type"`
	Subject       []subject       `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

type subject struct {
	Digest      map[string]string `json:"digest"`
	Annotations map[string]any    `json:"annotations,omitempty"`
}

// VerifyBundle checks the newer form. Its error wraps ErrSignature.
func (k *PublicKey) VerifyBundle(raw []byte, want Subject) error {
	if len(raw) > MaxBundleSize {
		return refuse("the bundle has %d bytes, at most %d are read", len(raw), MaxBundleSize)
	}
	var b bundle
	if err := decode(raw, &b); err != nil {
		return refuse("the bundle: %w", err)
	}
	switch {
	case b.MediaType != MediaTypeBundle:
		return refuse("the bundle is of type %.80q, want %s", b.MediaType, MediaTypeBundle)
	case b.Envelope == nil:
		return refuse("the bundle has no DSSE envelope: it signs a file, not an image")
	case b.Verification.PublicKey == nil:
		return refuse("the bundle names no public key: a keyless signature is not taken; sign with a key")
	case len(b.Envelope.Signatures) != 1:
		return refuse("the bundle has %d signatures, want 1", len(b.Envelope.Signatures))
	case b.Envelope.PayloadType != statementType:
		return refuse("the bundle signs %.80q, want %s", b.Envelope.PayloadType, statementType)
	}
	signed, err := base64.StdEncoding.Strict().DecodeString(b.Envelope.Payload)
	if err != nil {
		return refuse("the payload of the bundle is not base64: %w", err)
	}
	if err := k.verify(preAuthentication(statementType, signed), b.Envelope.Signatures[0].Sig); err != nil {
		return err
	}
	return want.checkStatement(signed)
}

// checkStatement reads what was signed, once it is known that it was.
func (s Subject) checkStatement(raw []byte) error {
	var st statement
	if err := decode(raw, &st); err != nil {
		return refuse("the signed statement: %w", err)
	}
	if st.PredicateType != PredicateSign {
		return refuse("it is an attestation (%.120q) and no signature (%s): run cosign sign, not cosign attest", st.PredicateType, PredicateSign)
	}
	if !strings.HasPrefix(st.Type, "https://in-toto.io/Statement/") {
		return refuse("the signed statement is of type %.80q, want one of in-toto", st.Type)
	}
	if len(st.Subject) != 1 {
		return refuse("the signed statement has %d subjects, want 1", len(st.Subject))
	}
	if got := "sha256:" + st.Subject[0].Digest["sha256"]; got != s.Digest {
		return refuse("it is of %.80q, wanted is %s: it belongs to another image", got, s.Digest)
	}
	return s.checkAnnotations(st.Subject[0].Annotations)
}

// preAuthentication is what a DSSE signature covers.
func preAuthentication(kind string, body []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(body), body)
}
