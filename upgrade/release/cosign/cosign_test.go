package cosign

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"strings"
	"testing"
)

const repository = "registry.example.com/team/agentd"

func newKey(tb testing.TB) *PrivateKey {
	tb.Helper()
	raw, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	key, err := NewPrivateKey(raw)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func subjectOf(digit string) Subject {
	return Subject{Digest: "sha256:" + strings.Repeat(digit, 64), Repositories: []string{repository}, Annotations: map[string]string{"version": "1.0.0"}}
}

// seal signs a payload or a statement that is not as SignPayload and
// SignBundle make them.
func (k *PrivateKey) seal(tb testing.TB, statement string) []byte {
	tb.Helper()
	sig, err := k.sign(preAuthentication(statementType, []byte(statement)))
	if err != nil {
		tb.Fatal(err)
	}
	return sealed(tb, k.public.hint, statement, sig)
}

func sealed(tb testing.TB, hint, statement, sig string) []byte {
	tb.Helper()
	raw, err := json.Marshal(bundle{
		MediaType: MediaTypeBundle, Verification: material{PublicKey: &publicKey{Hint: hint}},
		Envelope: &envelope{Payload: base64.StdEncoding.EncodeToString([]byte(statement)), PayloadType: statementType, Signatures: []signature{{Sig: sig}}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func check(tb testing.TB, err error, says string) {
	tb.Helper()
	switch {
	case says == "" && err != nil:
		tb.Errorf("refused: %v", err)
	case says != "" && (!errors.Is(err, ErrSignature) || !strings.Contains(err.Error(), says)):
		tb.Errorf("error %v, want ErrSignature that says %q", err, says)
	}
}

func TestBundleThatIsNoSignatureOfTheImageIsRefused(t *testing.T) {
	key, want := newKey(t), subjectOf("a")
	good, err := key.SignBundle(want)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := newKey(t).SignBundle(want)
	if err != nil {
		t.Fatal(err)
	}
	other, err := key.SignBundle(subjectOf("b"))
	if err != nil {
		t.Fatal(err)
	}
	relabelled := want
	relabelled.Annotations = map[string]string{"version": "2.0.0"}
	labelled, err := key.SignBundle(relabelled)
	if err != nil {
		t.Fatal(err)
	}
	hexA := strings.Repeat("a", 64)
	edit := func(f func(*bundle)) []byte {
		var b bundle
		if err := json.Unmarshal(good, &b); err != nil {
			t.Fatal(err)
		}
		f(&b)
		raw, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	statement := func(predicate, subjects string) []byte {
		return key.seal(t, `{"_type":"https://in-toto.io/Statement/v1","subject":[`+subjects+`],"predicateType":"`+predicate+`","predicate":{}}`)
	}
	self := `{"digest":{"sha256":"` + hexA + `"}}`
	for _, tt := range []struct {
		name string
		raw  []byte
		says string
	}{
		{"good", good, ""},
		{"good without annotations", statement(PredicateSign, self), ""},
		{"attestation passed as a signature", statement("https://slsa.dev/provenance/v1", self), "attestation"},
		{"attestation of no kind", statement("", self), "attestation"},
		{"signature of another image copied over", other, "belongs to another image"},
		{"signature for another version", labelled, "2.0.0"},
		{"signature by another key", foreign, "by another key"},
		{"two subjects, one of them the image", statement(PredicateSign, self+`,{"digest":{"sha256":"`+strings.Repeat("c", 64)+`"}}`), "2 subjects"},
		{"no subject", statement(PredicateSign, ""), "0 subjects"},
		{"subject by another hash", statement(PredicateSign, `{"digest":{"sha512":"`+hexA+`"}}`), "belongs to another image"},
		{"predicate type twice", key.seal(t, `{"predicateType":"x","predicateType":"`+PredicateSign+`","subject":[`+self+`]}`), "twice"},
		{"payload type swapped", edit(func(b *bundle) { b.Envelope.PayloadType = "text/plain" }), "signs"},
		{"keyless", edit(func(b *bundle) { b.Verification.PublicKey = nil }), "keyless"},
		{"signature of a file", edit(func(b *bundle) { b.Envelope = nil }), "signs a file"},
		{"two signatures", edit(func(b *bundle) { b.Envelope.Signatures = append(b.Envelope.Signatures, b.Envelope.Signatures[0]) }), "2 signatures"},
		{"no signature", edit(func(b *bundle) { b.Envelope.Signatures[0].Sig = "" }), "0 characters"},
		{"signature that is not base64", edit(func(b *bundle) { b.Envelope.Signatures[0].Sig = "?" }), "base64"},
		{"payload changed", edit(func(b *bundle) { b.Envelope.Payload = "e30=" }), "what it signs was changed"},
		{"old bundle", edit(func(b *bundle) { b.MediaType = "application/vnd.dev.sigstore.bundle+json;version=0.1" }), "of type"},
		{"envelope twice", []byte(`{"mediaType":"x","dsseEnvelope":{},"DSSEEnvelope":{}}`), "twice"},
		{"deep", []byte(`{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`), "nested"},
		{"oversized", make([]byte, MaxBundleSize+1), "at most"},
		{"empty", nil, "not valid JSON"},
	} {
		t.Run(tt.name, func(t *testing.T) { check(t, key.Public().VerifyBundle(tt.raw, want), tt.says) })
	}
}

func TestPayloadThatIsNoSignatureOfTheImageIsRefused(t *testing.T) {
	key, want := newKey(t), subjectOf("a")
	for _, tt := range []struct {
		name string
		edit func(p map[string]any, critical map[string]any)
		says string
	}{
		{"good", func(_, _ map[string]any) {}, ""},
		{"good, with the tag", func(_, c map[string]any) {
			c["identity"] = map[string]string{"docker-reference": repository + ":1.0.0"}
		}, ""},
		{"good, with the digest", func(_, c map[string]any) {
			c["identity"] = map[string]string{"docker-reference": repository + "@" + want.Digest}
		}, ""},
		{"signature of another repository copied over", func(_, c map[string]any) {
			c["identity"] = map[string]string{"docker-reference": "registry.example.com/dev/agentd"}
		}, "copied from another repository"},
		{"repository whose name begins like it", func(_, c map[string]any) {
			c["identity"] = map[string]string{"docker-reference": repository + "-dev"}
		}, "copied from another repository"},
		{"repository below it", func(_, c map[string]any) {
			c["identity"] = map[string]string{"docker-reference": repository + "/dev"}
		}, "copied from another repository"},
		{"host with a port like it", func(_, c map[string]any) {
			c["identity"] = map[string]string{"docker-reference": repository + ":80/x"}
		}, "copied from another repository"},
		{"signature of another image copied over", func(_, c map[string]any) {
			c["image"] = map[string]string{"docker-manifest-digest": subjectOf("b").Digest}
		}, "belongs to another image"},
		{"no digest", func(_, c map[string]any) { c["image"] = nil }, "belongs to another image"},
		{"another type", func(_, c map[string]any) { c["type"] = "atomic container signature" }, "of type"},
		{"another version", func(p, _ map[string]any) { p["optional"] = map[string]any{"version": "2.0.0"} }, "2.0.0"},
		{"a version that is no text", func(p, _ map[string]any) { p["optional"] = map[string]any{"version": []int{1}} }, "made for version"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			critical := map[string]any{
				"identity": map[string]string{"docker-reference": repository},
				"image":    map[string]string{"docker-manifest-digest": want.Digest},
				"type":     payloadType,
			}
			p := map[string]any{"critical": critical, "optional": nil}
			tt.edit(p, critical)
			raw, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			sig, err := key.sign(raw)
			if err != nil {
				t.Fatal(err)
			}
			check(t, key.Public().VerifyPayload(raw, sig, want), tt.says)
			check(t, newKey(t).Public().VerifyPayload(raw, sig, want), "by another key")
			check(t, key.Public().VerifyPayload(append(raw, ' '), sig, want), "by another key")
		})
	}
	raw, sig, err := key.SignPayload(want)
	if err != nil {
		t.Fatal(err)
	}
	check(t, key.Public().VerifyPayload(raw, sig, want), "")
	check(t, key.Public().VerifyPayload(make([]byte, MaxPayloadSize+1), sig, want), "at most")
	check(t, key.Public().VerifyPayload(raw, strings.Repeat("A", maxSignatureSize+1), want), "characters")
	nowhere := want
	nowhere.Repositories = nil
	check(t, key.Public().VerifyPayload(raw, sig, nowhere), "")
	if _, _, err := key.SignPayload(nowhere); err == nil {
		t.Error("a payload for no repository was signed")
	}
	// What is signed says what it is of.
	for name, value := range want.Annotations {
		changed := maps.Clone(want.Annotations)
		changed[name] = value + "0"
		check(t, key.Public().VerifyPayload(raw, sig, Subject{Digest: want.Digest, Annotations: changed}), "made for")
	}
}

func TestKeyOfAnotherKindIsRefused(t *testing.T) {
	encode := func(kind string, key any) string {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := encode("PUBLIC KEY", &p256.PublicKey)
	if _, err := ParsePublicKey([]byte(good)); err != nil {
		t.Error(err)
	}
	for name, text := range map[string]string{
		"another curve": encode("PUBLIC KEY", &p384.PublicKey),
		"ed25519":       encode("PUBLIC KEY", edwards),
		"certificate":   encode("CERTIFICATE", &p256.PublicKey),
		"two keys":      good + good,
		"garbage":       "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
		"no PEM":        "cosign",
		"empty":         "",
		"oversized":     good + strings.Repeat("\n", maxKeySize),
	} {
		if _, err := ParsePublicKey([]byte(text)); err == nil || !strings.Contains(err.Error(), "cosign key") {
			t.Errorf("%s: %v, want it refused", name, err)
		}
	}
}
