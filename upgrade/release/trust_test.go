package release

import (
	"errors"
	"strings"
	"testing"
)

func TestSignatureWithEndlessCommentIsRefused(t *testing.T) {
	message := []byte("message")
	for _, size := range []int{10, maxSignatureSize} {
		err := fixtureTrust(t, 1).Verify(message, sign(fixtureKey(t, 1), message, strings.Repeat("x", size)))
		if (err == nil) != (size < 100) || (err != nil && !errors.Is(err, ErrUntrusted)) {
			t.Errorf("comment of %d bytes: %v", size, err)
		}
	}
}

func TestNoKeysTrustNothing(t *testing.T) {
	message := []byte("message")
	if err := (Trust{}).Verify(message, sign(fixtureKey(t, 1), message, "")); !errors.Is(err, ErrUntrusted) {
		t.Errorf("no trusted keys: %v, want ErrUntrusted", err)
	}
}

// The slots of a host are checked again before a rollback, without the
// repository.
func TestStoredManifestIsBoundToNameAndVersion(t *testing.T) {
	raw, key := []byte(goodManifest), fixtureKey(t, 1)
	signature := sign(key, raw, "")
	for _, tt := range []struct {
		name, program, version string
		raw, signature         []byte
		ok                     bool
	}{
		{"as signed", "agentd", "1.0.0", raw, signature, true},
		{"other program", "otherd", "1.0.0", raw, signature, false},
		{"other version", "agentd", "1.0.1", raw, signature, false},
		{"other key", "agentd", "1.0.0", raw, sign(fixtureKey(t, 2), raw, ""), false},
		{"other bytes", "agentd", "1.0.0", append([]byte(" "), raw...), signature, false},
		{"no signature", "agentd", "1.0.0", raw, nil, false},
	} {
		m, err := fixtureTrust(t, 1).VerifyManifest(tt.program, tt.version, tt.raw, tt.signature)
		if (err == nil) != tt.ok || (err != nil && (m != nil || !errors.Is(err, ErrUntrusted))) {
			t.Errorf("%s: %v, %v", tt.name, m, err)
		}
	}
}
