package release

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"aead.dev/minisign"
)

// aliased is a host whose keyring 2 lists key 1 under another id alone, and key 2.
func aliased(t *testing.T) (r *rooted, twin KeyringKey) {
	t.Helper()
	r = newRooted(t)
	_, twin = relabelled(t, 1)
	r.add(2)
	r.ring.Keys[0] = twin
	r.roll(root1, root2)
	r.mustPublish(2, "1.0.0")
	r.mustTake("1.0.0")
	return r, twin
}

// revokesItself serves a keyring that revokes key 1 by its own id, and says
// nothing of the other one.
func (r *rooted) revokesItself() {
	r.tb.Helper()
	document := r.forge(func(k *Keyring) {
		k.Keys = k.Keys[1:]
		k.Revoked = []RevokedKey{{ID: fixtureID(r.tb, 1), Key: fixturePublic(r.tb, 1).String(), Since: r.clock}}
	})
	r.serve(document, r.sign(document, root1, root2)...)
}

// untold takes the members out of trust.json that older releases do not write.
func untold(data []byte, keys ...string) []byte {
	for _, key := range keys {
		data = bytes.ReplaceAll(data, []byte(",\n      \"public_key\": \""+key+"\""), nil)
	}
	return data
}

func TestFastForwardByAKeyUnderAnotherIdEndsWithTheRevocationOfTheKey(t *testing.T) {
	t.Parallel()
	for name, older := range map[string]bool{"accepted by this release": false, "accepted by an older one": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, twin := aliased(t)
			honest := r.snapshot()
			r.again(1, func(x *Index) { x.Sequence = 1 << 50 })
			r.mustTake("1.0.0")
			if older {
				before := r.read(r.state)
				r.write(r.state, untold(before, twin.Key, fixturePublic(t, 2).String()))
				if bytes.Equal(before, r.read(r.state)) {
					t.Fatal("nothing was taken out")
				}
			}
			r.restore(honest, indexPath, indexPath+signatureSuffix)
			r.revokesItself()
			r.mustTake("1.0.0")
			s, err := readTrustState(r.state)
			if err != nil || s.Sequence != 1 || len(s.Marks) != 1 || s.Marks[0].Key != fixtureID(t, 2) || s.Marks[0].PublicKey != fixturePublic(t, 2).String() {
				t.Errorf("remembered are sequence %d and %+v (%v)", s.Sequence, s.Marks, err)
			}
			// What the good key has signed counts as before.
			x := r.index()
			x.Sequence = 1
			x.Releases = nil
			r.signIndex(2, x)
			if err := r.takes("1.0.0"); !errors.Is(err, ErrReplay) {
				t.Errorf("another index by the good key: %v, want ErrReplay", err)
			}
		})
	}
}

func TestIndexByAnotherIdOfAKeyThatIsRevokedMeanwhileIsNotRemembered(t *testing.T) {
	t.Parallel()
	r, _ := aliased(t)
	c := r.host()
	keys, err := c.Keyring(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.again(1, func(x *Index) { x.Sequence = 1 << 50 })
	raw, signature := r.read(r.path(indexPath)), r.read(r.path(indexPath+signatureSuffix))
	if err := keys.verifyAt(raw, signature, r.clock); err != nil {
		t.Fatal(err)
	}
	x := r.index()
	// Another process hears of it while the index waits to be saved.
	r.revokesItself()
	if _, err := r.host().Keyring(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.remember(t.Context(), x, sha256Hex(raw), keys, signature); !errors.Is(err, ErrRevoked) || !strings.Contains(err.Error(), "under another id") {
		t.Errorf("%v, want ErrRevoked that names the other id", err)
	}
	if s, err := readTrustState(r.state); err != nil || s.Sequence != 1 {
		t.Errorf("remembered is sequence %d (%v)", s.Sequence, err)
	}
}

func TestRevokedKeyThatIsListedUnderAnotherIdIsRevokedUnderBoth(t *testing.T) {
	t.Parallel()
	for name, before := range map[string][]RevokedKey{
		"not revoked yet":         nil,
		"revoked by its id alone": {{ID: fixtureID(t, 1), Since: issued, Reason: "stolen"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, twin := aliased(t)
			r.ring.Revoked = slices.Clone(before)
			if err := r.ring.RevokeKey(fixturePublic(t, 1), "stolen", r.clock); err != nil {
				t.Fatal(err)
			}
			told := map[string]string{}
			for _, gone := range r.ring.Revoked {
				told[gone.ID] = gone.Key
			}
			if len(told) != 2 || told[twin.ID()] != twin.Key || told[fixtureID(t, 1)] != fixturePublic(t, 1).String() {
				t.Errorf("revoked are %+v", r.ring.Revoked)
			}
			if r.ring.ids() != fixtureID(t, 2) {
				t.Errorf("listed are %s", r.ring.ids())
			}
			r.roll(root1, root2)
			r.again(1, func(*Index) {})
			if err := r.takes("1.0.0"); !errors.Is(err, ErrRevoked) {
				t.Errorf("an index under the other id: %v, want ErrRevoked", err)
			}
			var other minisign.PublicKey
			if err := other.UnmarshalText([]byte(twin.Key)); err != nil {
				t.Fatal(err)
			}
			if err := r.ring.RevokeKey(other, "again", r.clock); err == nil || !strings.Contains(err.Error(), "it was revoked at") {
				t.Errorf("once more, under the other id: %v", err)
			}
		})
	}
}

func TestMarksOfSchema1AreReadAndWrittenAsEver(t *testing.T) {
	r := goldenKeyring(t)
	index := sha256Hex(r.read(r.path(indexPath)))
	if got := bytes.ReplaceAll(r.read(r.state), []byte(index), []byte(goldenIndex)); !bytes.Equal(got, golden(t, "trust-1-marks.json")) {
		t.Errorf("trust-1-marks.json is now written as\n%s", got)
	}
	public := fixturePublic(t, 2).String()
	s, err := readTrustState(filepath.Join("testdata", "trust-1-marks.json"))
	if err != nil || len(s.Marks) != 1 || s.Marks[0] != (mark{Key: fixtureID(t, 2), Sequence: 1, Index: goldenIndex, PublicKey: public}) {
		t.Errorf("%+v, %v", s.Marks, err)
	}
	for _, text := range []string{"RWQ", fixturePublic(t, 1).String()} {
		data := bytes.Replace(golden(t, "trust-1-marks.json"), []byte(public), []byte(text), 1)
		if s, err := parseTrustState(data); err == nil {
			t.Errorf("%q is read as %+v", text, s.Marks)
		}
	}
}
