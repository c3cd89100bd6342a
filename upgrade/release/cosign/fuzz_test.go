package cosign

import (
	"encoding/json"
	"strings"
	"testing"
)

// Both verifiers first see bytes that nobody has vouched for, and then bytes
// that the key's owner signed for another purpose.

func FuzzBundle(f *testing.F) {
	key, want := newKey(f), subjectOf("a")
	good, err := key.SignBundle(want)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"mediaType":"` + MediaTypeBundle + `","verificationMaterial":{"publicKey":{}},"dsseEnvelope":{"payload":"e30=","payloadType":"` + statementType + `","signatures":[{"sig":"MEUC"}]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := key.Public().VerifyBundle(raw, want); err == nil {
			var b bundle
			if json.Unmarshal(raw, &b) != nil || !strings.Contains(string(good), b.Envelope.Payload) {
				t.Errorf("taken: %q", raw)
			}
		}
	})
}

func FuzzPayload(f *testing.F) {
	key, want := newKey(f), subjectOf("a")
	good, sig, err := key.SignPayload(want)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, sig)
	f.Add([]byte(`{}`), "MEUCIQ==")
	f.Fuzz(func(t *testing.T, raw []byte, signature string) {
		if err := key.Public().VerifyPayload(raw, signature, want); err == nil && string(raw) != string(good) {
			t.Errorf("taken: %q", raw)
		}
	})
}

// FuzzStatement signs whatever it is given.
func FuzzStatement(f *testing.F) {
	key, want := newKey(f), subjectOf("a")
	hex := strings.TrimPrefix(want.Digest, "sha256:")
	f.Add(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + hex + `"},"annotations":{"version":"1.0.0"}}],"predicateType":"` + PredicateSign + `","predicate":{}}`)
	f.Add(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + hex + `"}}],"predicateType":"https://slsa.dev/provenance/v1"}`)
	f.Fuzz(func(t *testing.T, text string) {
		if err := key.Public().VerifyBundle(key.seal(t, text), want); err == nil && (!strings.Contains(text, hex) || !strings.Contains(text, "cosign")) && !strings.Contains(text, `\`) {
			t.Errorf("taken: %q", text)
		}
	})
}
