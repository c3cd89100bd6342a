package release

import (
	"errors"
	"strings"
	"testing"

	"aead.dev/minisign"
)

// relabelled is the private key of a seed under an id of somebody's choice.
func relabelled(tb testing.TB, seed byte) (minisign.PrivateKey, KeyringKey) {
	tb.Helper()
	key := rawKey(tb, 0xABCD, decodedKey(tb, mustText(tb, fixtureKey(tb, seed))))
	public, err := publicKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return key, KeyringKey{Key: public.String()}
}

func TestKeyUnderASecondIdIsNotListedBesideTheFirst(t *testing.T) {
	t.Parallel()
	r := newRooted(t)
	_, twin := relabelled(t, 1)
	if err := r.ring.Add(twin); err == nil || !strings.Contains(err.Error(), "under another id") {
		t.Errorf("the key was added a second time: %v", err)
	}
	document := r.forge(func(k *Keyring) { k.Keys = append(k.Keys, twin) })
	r.serve(document, r.sign(document, root1, root2)...)
	if k, err := r.host().Keyring(t.Context()); err == nil || !strings.Contains(err.Error(), "under another id") {
		t.Errorf("a host takes it: %+v, %v", k, err)
	}
}

func TestRootUnderAnotherIdIsNoReleaseKey(t *testing.T) {
	t.Parallel()
	r := newRooted(t)
	root, twin := relabelled(t, root3)
	document := r.forge(func(k *Keyring) { k.Keys = append(k.Keys, twin) })
	r.serve(document, r.sign(document, root1, root2)...)
	if k, err := r.host().Keyring(t.Context()); !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), "as a release key") {
		t.Errorf("a host takes it: %+v, %v", k, err)
	}
	for name, key := range map[string]minisign.PrivateKey{"its own id": fixtureKey(t, root3), "the listed id": root} {
		if _, err := SignKeyring(document, key); err == nil {
			t.Errorf("a root signs, under %s, that it signs releases", name)
		}
	}
}
