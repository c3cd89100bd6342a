package release

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
)

// revokedHost is a host that has seen that key 1 is revoked, in keyring 2,
// beside a snapshot of the repository from before.
func revokedHost(t *testing.T) (r *rooted, before string) {
	t.Helper()
	r = newRooted(t)
	r.mustPublish(1, "1.0.0")
	r.mustTake("1.0.0")
	before = r.snapshot()
	r.add(2)
	r.revoke(1)
	r.roll(root1, root2)
	r.mustPublish(2, "1.1.0", 1)
	r.mustTake("1.1.0")
	return r, before
}

func TestOldKeyringReplayedIsRefused(t *testing.T) {
	r, before := revokedHost(t)
	saved := r.read(r.state)
	r.dir = before
	if err := r.takes("1.0.0"); !errors.Is(err, ErrReplay) || !strings.Contains(err.Error(), "found keyring 1 of agentd, this host has accepted 2") {
		t.Errorf("keyring 1 after 2: %v, want ErrReplay", err)
	}
	if !bytes.Equal(saved, r.read(r.state)) {
		t.Error("a refused keyring changed trust.json")
	}
}

func TestWithheldKeyringDoesNotBringARevokedKeyBack(t *testing.T) {
	r, before := revokedHost(t)
	r.dir = before
	r.withhold()
	// The thief of the key signs an index that is newer than any.
	x := r.index()
	x.Sequence = 100
	r.signIndex(1, x)
	if err := r.takes("1.0.0"); !errors.Is(err, ErrRevoked) {
		t.Errorf("index by a revoked key beside no keyring: %v, want ErrRevoked", err)
	}
}

func TestKeyringInForceSurvivesARepositoryThatServesNone(t *testing.T) {
	r, _ := revokedHost(t)
	r.withhold()
	r.mustTake("1.1.0")
	r.clock = r.clock.Add(366 * 24 * time.Hour)
	if err := r.takes("1.1.0"); !errors.Is(err, ErrExpired) || !strings.Contains(err.Error(), "keyring 2") {
		t.Errorf("withheld for longer than the keyring is valid: %v, want ErrExpired", err)
	}
}

func TestTwoKeyringsWithOneSequenceAreRefused(t *testing.T) {
	r, _ := revokedHost(t)
	r.ring.Sequence--
	r.add(3)
	document := r.issue()
	r.serve(document, r.sign(document, root1, root2)...)
	if err := r.takes("1.1.0"); !errors.Is(err, ErrReplay) || !strings.Contains(err.Error(), "two different keyrings") {
		t.Errorf("another keyring 2: %v, want ErrReplay", err)
	}
}

func TestRevocationOutlivesAKeyringThatDropsIt(t *testing.T) {
	r, _ := revokedHost(t)
	r.ring.Revoked = nil
	r.add(1)
	document := r.issue()
	if err := r.install(document, r.sign(document, root1, root2)...); !errors.Is(err, ErrRevoked) {
		t.Errorf("installed: %v, want ErrRevoked", err)
	}
	// Laid out by hand, hosts take it, for its other keys count.
	r.serve(document, r.sign(document, root1, root2)...)
	x := r.index()
	x.Sequence++
	r.signIndex(1, x)
	if err := r.takes("1.1.0"); !errors.Is(err, ErrRevoked) || !strings.Contains(err.Error(), "earlier keyring") {
		t.Errorf("a key that was revoked and is listed again: %v, want ErrRevoked", err)
	}
	r.signIndex(2, x)
	r.mustTake("1.1.0")
}

func TestFastForwardOfTheKeyringNeedsTheRoots(t *testing.T) {
	r := newRooted(t)
	r.mustPublish(1, "1.0.0")
	r.mustTake("1.0.0")
	honest := r.snapshot()
	far := r.forge(func(k *Keyring) { k.Sequence = maxSequence })
	for name, signatures := range map[string][][]byte{
		"too few roots": r.sign(far, root1), "release key": r.sign(far, 1, 1), "nobody": nil,
	} {
		r.serve(far, signatures...)
		if err := r.takes("1.0.0"); !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: %v, want ErrUntrusted", name, err)
		}
	}
	// It has left nothing behind: the honest next keyring is taken.
	r.dir = honest
	r.add(2)
	r.roll(root2, root3)
	r.mustTake("1.0.0")

	// The roots themselves can do it, and then no keyring follows.
	far = r.forge(func(k *Keyring) { k.Sequence = maxSequence })
	r.serve(far, r.sign(far, root1, root2)...)
	r.mustTake("1.0.0")
	last, err := ParseKeyring(far)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := last.Issue(r.clock, time.Hour); err == nil || !strings.Contains(err.Error(), "other roots") {
		t.Errorf("issued after the last sequence: %v", err)
	}
	// A release with other roots begins anew, and the revocations stay.
	other := Trust{Roots: fixtureTrust(t, 104).Keys}
	r.ring.Sequence = 0
	document := r.issue()
	r.withhold()
	r.write(r.path(keyringPath), document)
	r.write(r.path(keyringCopyPath(fixtureID(t, 104))), r.sign(document, 104)[0])
	if k, err := r.hostOf(r.source(), other).Keyring(t.Context()); err != nil || k.Sequence != 1 {
		t.Errorf("keyring of other roots: %+v, %v", k, err)
	}
}

func TestKeyringOfOtherRootsIsNotInForce(t *testing.T) {
	r, _ := revokedHost(t)
	r.withhold()
	c := r.hostOf(r.source(), Trust{Roots: fixtureTrust(t, 104, 105).Keys, Threshold: 1})
	if _, err := c.Keyring(t.Context()); !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), "accepted none yet") {
		t.Errorf("a kept keyring that these roots have not signed: %v", err)
	}
}

// A stolen release key can sign the largest sequence of an index. Its
// revocation takes that back, and nothing else.
func TestFastForwardOfTheIndexEndsWithTheRevocationOfItsKey(t *testing.T) {
	r := newRooted(t)
	r.add(2)
	r.roll(root1, root2)
	r.mustPublish(2, "1.0.0")
	old := r.snapshot()
	r.mustPublish(2, "1.1.0")
	r.mustTake("1.1.0")
	honest := r.snapshot()
	x := r.index()
	x.Sequence = maxSequence
	r.signIndex(1, x)
	r.mustTake("1.1.0")
	r.dir = honest
	if err := r.takes("1.1.0"); !errors.Is(err, ErrReplay) {
		t.Fatalf("below the highest sequence: %v, want ErrReplay", err)
	}
	r.revoke(1)
	r.roll(root1, root2)
	honest = r.snapshot()
	// What the good key has signed counts as before.
	r.restore(old, indexPath, indexPath+signatureSuffix)
	if err := r.takes("1.0.0"); !errors.Is(err, ErrReplay) {
		t.Errorf("an older index by the good key: %v, want ErrReplay", err)
	}
	r.restore(honest, indexPath, indexPath+signatureSuffix)
	r.mustTake("1.1.0")
}

func TestSequenceAcceptedWithoutAKeyringStays(t *testing.T) {
	r := newRooted(t)
	r.mustPublish(1, "1.0.0")
	old := r.snapshot()
	r.mustPublish(1, "1.1.0")
	// First with the one-key form.
	if _, err := r.client().Index(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.mustTake("1.1.0")
	r.add(2)
	r.revoke(1)
	r.roll(root1, root2)
	r.restore(old, indexPath, indexPath+signatureSuffix)
	x := r.index()
	r.signIndex(2, x)
	if err := r.takes("1.0.0"); !errors.Is(err, ErrReplay) {
		t.Errorf("sequence 1 after 2, which a trusted key had signed: %v, want ErrReplay", err)
	}
}

func TestTrustThatIsWeakerThanItLooksIsRefused(t *testing.T) {
	r := newRooted(t)
	roots := rootTrust(t).Roots
	again := rawKey(t, 77, decodedKey(t, mustText(t, fixtureKey(t, root1))))
	sameKey, err := publicKey(again)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		trust Trust
		says  string
	}{
		"nothing":                    {Trust{}, "no trusted key"},
		"keys and roots":             {Trust{Keys: roots, Roots: roots}, "keys and roots"},
		"threshold without roots":    {Trust{Keys: roots, Threshold: 1}, "no roots"},
		"threshold above the roots":  {Trust{Roots: roots, Threshold: 4}, "want 1 to 3"},
		"negative threshold":         {Trust{Roots: roots, Threshold: -1}, "want 1 to 3"},
		"root given twice":           {Trust{Roots: append(roots[:2:2], roots[0])}, "given twice"},
		"root twice under other ids": {Trust{Roots: append(roots[:2:2], sameKey)}, "given twice"},
		"too many roots":             {Trust{Roots: fixtureTrust(t, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17).Keys}, "at most 16"},
	} {
		if _, err := NewClient(ClientConfig{Source: r.source(), Trust: tt.trust, Name: "agentd"}); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want an error that says %q", name, err, tt.says)
		}
	}
	for n, want := range map[int]int{1: 1, 2: 2, 3: 2, 4: 3, 5: 3} {
		if got := (Trust{Roots: make([]minisign.PublicKey, n)}).Needed(); got != want {
			t.Errorf("default threshold of %d roots is %d, want %d", n, got, want)
		}
	}
	if err := (Trust{Roots: roots}).Verify([]byte("x"), sign(fixtureKey(t, root1), []byte("x"), "")); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a root signs what is no keyring: %v, want ErrUntrusted", err)
	}
}
