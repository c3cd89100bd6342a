package release

import (
	"errors"
	"path/filepath"
	"testing"
)

// TestDocumentOfAHostCountsByTheKeysThatSignReleases: a host would else run code
// of whoever can write into its plugins directory.
func TestDocumentOfAHostCountsByTheKeysThatSignReleases(t *testing.T) {
	message := []byte("name: logtail\n")
	mine, others := fixtureKey(t, 1), fixtureKey(t, 2)
	absent := filepath.Join(t.TempDir(), "trust.json")
	plain := fixtureTrust(t, 1)
	if id, err := VerifyOnHost(absent, plain, message, Sign(mine, message, "")); err != nil || id != fixtureID(t, 1) {
		t.Errorf("%s, %v", id, err)
	}
	for name, signature := range map[string][]byte{
		"another key": Sign(others, message, ""), "another document": Sign(mine, []byte("name: exec\n"), ""), "nothing": nil,
	} {
		if _, err := VerifyOnHost(absent, plain, message, signature); !errors.Is(err, ErrUntrusted) {
			t.Errorf("signed by %s: %v", name, err)
		}
	}
	if _, err := VerifyOnHost(absent, Trust{}, message, Sign(mine, message, "")); !errors.Is(err, ErrUntrusted) {
		t.Errorf("nobody is trusted, and the error is %v", err)
	}
}

func TestDocumentOfAHostCountsByTheKeyringThatTheHostHasAccepted(t *testing.T) {
	r := newRooted(t)
	message := []byte("name: logtail\n")
	signed := Sign(fixtureKey(t, 1), message, "")
	verify := func() (string, error) { return VerifyOnHost(r.state, rootTrust(t), message, signed) }
	if _, err := verify(); !errors.Is(err, ErrUntrusted) || !errors.Is(err, ErrNotFound) {
		t.Errorf("before a keyring was seen: %v", err)
	}
	if _, err := r.host().Keyring(t.Context()); err != nil {
		t.Fatal(err)
	}
	if id, err := verify(); err != nil || id != fixtureID(t, 1) {
		t.Errorf("by a key that the keyring lists: %s, %v", id, err)
	}
	if _, err := VerifyOnHost(r.state, rootTrust(t), message, Sign(fixtureKey(t, 2), message, "")); !errors.Is(err, ErrUntrusted) {
		t.Errorf("by a key that it does not list: %v", err)
	}
	r.add(3)
	r.revoke(1)
	r.roll(root1, root2)
	if _, err := r.host().Keyring(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(); !errors.Is(err, ErrRevoked) {
		t.Errorf("by a key that was revoked: %v", err)
	}
}
