package release

import (
	"slices"
	"strings"
	"testing"
)

// damage is what a check with the state of the host finds, in words.
func (r *rooted) damage() string {
	r.tb.Helper()
	v, err := r.host().Verify(r.tb.Context())
	if err != nil {
		r.tb.Fatal(err)
	}
	return v.String()
}

func TestVerifyFindsAKeyringThatThisHostWouldRefuse(t *testing.T) {
	t.Parallel()
	r := newRooted(t)
	r.add(2)
	r.mustPublish(1, "1.0.0")
	first := r.read(r.path(keyringPath))
	signatures := r.sign(first, root1, root2)
	r.revoke(1)
	r.roll(root1, root2)
	if _, err := r.host().Keyring(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.serve(first, signatures...)
	got := r.damage()
	if !strings.Contains(got, "this host has accepted 2") || !strings.Contains(got, "key revoked") {
		t.Errorf("an old keyring that brings a revoked key back: %s", got)
	}
	other := r.forge(func(k *Keyring) { k.Sequence--; k.Keys = slices.Clone(k.Keys); k.Keys[0].Comment = "another" })
	r.serve(other, r.sign(other, root1, root2)...)
	if got := r.damage(); !strings.Contains(got, "two different keyrings") {
		t.Errorf("another keyring with the accepted sequence: %s", got)
	}
}

// The thief's sequence goes with the thief's key, in a check as on a host.
func TestVerifyForgetsTheSequenceOfARevokedKey(t *testing.T) {
	t.Parallel()
	r := newRooted(t)
	r.mustPublish(1, "1.0.0")
	r.mustTake("1.0.0")
	r.add(2)
	r.roll(root1, root2)
	good := r.snapshot()
	x := r.index()
	x.Sequence = 1 << 40
	r.signIndex(2, x)
	r.mustTake("1.0.0")
	r.restore(good, indexPath, indexPath+signatureSuffix)
	r.revoke(2)
	r.roll(root1, root2)
	if got := r.damage(); strings.Contains(got, "\n") {
		t.Errorf("a good repository: %s", got)
	}
	r.mustTake("1.0.0")
}

func TestEachReleaseIsDescribedFromTheSourceThatHasIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.publish("1.0.0")
	old, err := NewDir(f.snapshot())
	if err != nil {
		t.Fatal(err)
	}
	f.clock = f.clock.Add(fixtureValidity)
	f.publish("1.1.0")
	_, all, err := f.clientOf(refreshed{old, f.source()}).DescribeAll(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, d := range all {
		if d.Problem != "" || d.Manifest == nil || d.SignedBy.Key == "" {
			t.Errorf("%s: %+v", d.Pin, d)
		}
	}
}

// refreshed has kept an old state of a repository, and can ask for the
// present one.
type refreshed struct {
	Source

	present Source
}

func (s refreshed) Fresh() (Source, error) { return s.present, nil }
