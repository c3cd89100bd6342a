package release

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestDraftRefusesWhatHostsWouldRefuse(t *testing.T) {
	r := newRooted(t)
	before, err := encodeDocument(r.ring)
	if err != nil {
		t.Fatal(err)
	}
	id := fixtureID(t, 1)
	for name, tt := range map[string]struct {
		err  error
		want error
		says string
	}{
		"key that is listed":           {r.ring.Add(KeyringKey{Key: fixturePublic(t, 1).String()}), nil, "listed already"},
		"garbage for a key":            {r.ring.Add(KeyringKey{Key: "x"}), nil, "public key"},
		"key with its comment":         {r.ring.Add(KeyringKey{Key: "untrusted comment: x\n" + fixturePublic(t, 2).String()}), nil, "base64 line"},
		"time that ends first":         {r.ring.Add(KeyringKey{Key: fixturePublic(t, 2).String(), NotBefore: issued, NotAfter: issued}), nil, "second after the first"},
		"long comment":                 {r.ring.Add(KeyringKey{Key: fixturePublic(t, 2).String(), Comment: strings.Repeat("x", maxKeyComment+1)}), nil, "at most"},
		"retiring a key not listed":    {r.ring.Retire(fixtureID(t, 2), issued), ErrNotFound, id},
		"revoking what is no id":       {r.ring.Revoke("../../x", "", issued), nil, "hexadecimal"},
		"revoking lower case":          {r.ring.Revoke(strings.ToLower(fixtureID(t, 250)), "", issued), nil, "upper-case"},
		"validity of nothing":          {second(r.ring.Issue(r.clock, 0)), nil, "shorter"},
		"program whose name is a path": {second(NewKeyring("../x")), nil, "name"},
	} {
		if tt.err == nil || (tt.want != nil && !errors.Is(tt.err, tt.want)) || !strings.Contains(tt.err.Error(), tt.says) {
			t.Errorf("%s: %v, want an error that says %q", name, tt.err, tt.says)
		}
	}
	if after, err := encodeDocument(r.ring); err != nil || !bytes.Equal(before, after) {
		t.Errorf("a refused change changed the draft:\n%s", after)
	}
	r.revoke(1)
	if err := r.ring.Add(KeyringKey{Key: fixturePublic(t, 1).String()}); !errors.Is(err, ErrRevoked) {
		t.Errorf("a revoked key was added: %v", err)
	}
	if err := r.ring.Revoke(id, "again", issued); err == nil {
		t.Error("a key was revoked twice")
	}
}

func second[T any](_ T, err error) error { return err }

func TestIssueMovesForwardAndGivesTheSameBytes(t *testing.T) {
	r := newRooted(t)
	a, b := *r.ring, *r.ring
	first, err := a.Issue(issued.Add(time.Hour), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := b.Issue(issued.Add(time.Hour), time.Hour); err != nil || !bytes.Equal(first, again) {
		t.Errorf("the same keyring was issued as\n%s and\n%s (%v)", first, again, err)
	}
	if _, err := a.Issue(issued, time.Hour); err != nil || a.Sequence != 3 || !a.Issued.Equal(issued.Add(time.Hour)) {
		t.Errorf("with the clock set back: sequence %d, issued %v (%v)", a.Sequence, a.Issued, err)
	}
}

func TestRootSignsNothingButAKeyring(t *testing.T) {
	r := newRooted(t)
	r.mustPublish(1, "1.0.0")
	root := fixtureKey(t, root1)
	for name, document := range map[string][]byte{
		"index": r.read(r.path(indexPath)), "manifest": r.read(r.path(manifestPath(r.entry("1.0.0").Manifest))), "text": []byte("text"),
	} {
		if _, err := SignKeyring(document, root); err == nil || !strings.Contains(err.Error(), "not signed") {
			t.Errorf("%s: %v, want an error that says that it was not signed", name, err)
		}
	}
	if _, err := SignKeyring(r.read(r.path(keyringPath)), fixtureKey(t, 1)); err == nil || !strings.Contains(err.Error(), "no root") {
		t.Errorf("release key: %v", err)
	}
	document := r.issue()
	var signatures [][]byte
	for _, seed := range []byte{root3, root1} {
		signature, err := SignKeyring(document, fixtureKey(t, seed))
		if err != nil {
			t.Fatal(err)
		}
		signatures = append(signatures, signature)
	}
	if k, err := rootTrust(t).VerifyKeyring(document, signatures...); err != nil || k.Sequence != 2 {
		t.Errorf("%+v, %v", k, err)
	}
}

// The bytes that were signed are the bytes that are read.
func TestKeyringThatWasFormattedAnewIsRefused(t *testing.T) {
	r := newRooted(t)
	document := r.issue()
	signatures := r.sign(document, root1, root2)
	if _, err := rootTrust(t).VerifyKeyring(bytes.ReplaceAll(document, []byte("\n"), []byte("\r\n")), signatures...); !errors.Is(err, ErrUntrusted) {
		t.Errorf("%v, want ErrUntrusted", err)
	}
}
