package release

import (
	"bytes"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// again publishes an index that key has signed, as its thief does.
func (r *rooted) again(twin byte, change func(*Index)) {
	r.tb.Helper()
	x := r.index()
	x.Sequence++
	change(x)
	key, _ := relabelled(r.tb, twin)
	raw, err := encodeDocument(x)
	if err != nil {
		r.tb.Fatal(err)
	}
	r.write(r.path(indexPath), raw)
	r.write(r.path(indexPath+signatureSuffix), sign(key, raw, "agentd index"))
}

func TestRevokedKeyUnderAnotherIdIsRefused(t *testing.T) {
	t.Parallel()
	_, twin := relabelled(t, 1)
	seen := func(t *testing.T) *rooted {
		r := newRooted(t)
		r.mustPublish(1, "1.0.0")
		r.add(2)
		r.revoke(1)
		r.roll(root1, root2)
		r.mustPublish(2, "1.1.0", 1)
		r.mustTake("1.1.0")
		return r
	}
	t.Run("added by the roots' tool", func(t *testing.T) {
		if err := seen(t).ring.Add(twin); !errors.Is(err, ErrRevoked) || !strings.Contains(err.Error(), "under another id") {
			t.Errorf("%v", err)
		}
	})
	t.Run("listed beside the revocation", func(t *testing.T) {
		r := seen(t)
		document := r.forge(func(k *Keyring) { k.Keys = append(k.Keys, twin) })
		r.serve(document, r.sign(document, root1, root2)...)
		if _, err := r.host().Keyring(t.Context()); !errors.Is(err, ErrRevoked) || !strings.Contains(err.Error(), "under another id") {
			t.Errorf("%v", err)
		}
	})
	for name, revoked := range map[string][]RevokedKey{
		"listed without the revocation":       nil,
		"listed beside a revocation by an id": {{ID: fixtureID(t, 1), Since: issued, Reason: "stolen"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := seen(t)
			document := r.forge(func(k *Keyring) { k.Keys, k.Revoked = append(k.Keys, twin), revoked })
			if err := r.install(document, r.sign(document, root1, root2)...); !errors.Is(err, ErrRevoked) {
				t.Errorf("a publisher installs it: %v", err)
			}
			r.serve(document, r.sign(document, root1, root2)...)
			if _, err := r.host().Keyring(t.Context()); err != nil {
				t.Fatalf("the other keys count no more: %v", err)
			}
			r.again(1, func(*Index) {})
			// A process that starts now knows it by trust.json alone.
			if _, err := r.host().Index(t.Context()); !errors.Is(err, ErrRevoked) || !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), "under another id") {
				t.Errorf("its index: %v", err)
			}
			if found, err := r.host().Verify(t.Context()); err != nil || len(found.Damage) == 0 || !strings.Contains(found.Damage[0].Problem, "under another id") {
				t.Errorf("release verify finds %+v (%v)", found, err)
			}
		})
	}
	t.Run("signed with by a publisher", func(t *testing.T) {
		r := seen(t)
		key, _ := relabelled(t, 1)
		repo, err := NewRepository(RepositoryConfig{Dir: r.dir, Key: key, Trust: rootTrust(t), Now: r.now})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := repo.Publish(t.Context(), r.release("1.2.0")); !errors.Is(err, ErrRevoked) {
			t.Errorf("%v", err)
		}
	})
}

func TestRevocationByAnIdAloneIsReadAndCompletedByTheKey(t *testing.T) {
	t.Parallel()
	r := newRooted(t)
	r.add(2)
	r.revoke(1)
	r.ring.Revoked[0].Key = ""
	r.roll(root1, root2)
	r.mustPublish(2, "1.0.0")
	r.mustTake("1.0.0")
	before := r.ring.Revoked[0]
	if err := r.ring.RevokeKey(fixturePublic(t, 1), "again", r.clock.AddDate(1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	before.Key = fixturePublic(t, 1).String()
	if len(r.ring.Revoked) != 1 || r.ring.Revoked[0] != before {
		t.Errorf("%+v, want %+v", r.ring.Revoked, before)
	}
	if err := r.ring.RevokeKey(fixturePublic(t, 1), "again", r.clock); err == nil || !strings.Contains(err.Error(), "it was revoked at") {
		t.Errorf("once more: %v", err)
	}
	r.roll(root1, root2)
	r.mustTake("1.0.0")
	s, err := readTrustState(r.state)
	if err != nil || !slices.Equal(s.RevokedKeys, []string{before.Key}) || len(s.Revoked) != 1 {
		t.Errorf("the host keeps %q of %q (%v)", s.RevokedKeys, s.Revoked, err)
	}
	other, err := NewKeyring("agentd")
	if err != nil {
		t.Fatal(err)
	}
	if err := other.RevokeKey(fixturePublic(t, 9), "stolen", r.clock); err != nil || other.Revoked[0].ID != fixtureID(t, 9) || other.Revoked[0].Key == "" {
		t.Errorf("a key that is not listed: %+v, %v", other.Revoked, err)
	}
}

// TestRevokedKeyIsLearntFromAKeyringThatAnOlderReleaseHasAccepted: that one
// kept the id.
func TestRevokedKeyIsLearntFromAKeyringThatAnOlderReleaseHasAccepted(t *testing.T) {
	t.Parallel()
	r := newRooted(t)
	r.add(2)
	r.revoke(1)
	r.roll(root1, root2)
	r.mustPublish(2, "1.0.0")
	r.mustTake("1.0.0")
	var all map[string]json.RawMessage
	if err := json.Unmarshal(r.read(r.state), &all); err != nil {
		t.Fatal(err)
	}
	delete(all, "revoked_keys")
	raw, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	r.write(r.state, raw)
	r.mustTake("1.0.0")
	if s, err := readTrustState(r.state); err != nil || len(s.RevokedKeys) != 1 {
		t.Errorf("it keeps %q (%v)", s.RevokedKeys, err)
	}
}

func TestRevocationThatTellsAnotherKeyIsRefused(t *testing.T) {
	t.Parallel()
	r := newRooted(t)
	for _, text := range []string{"RWQ", fixturePublic(t, 2).String()} {
		document := r.forge(func(k *Keyring) {
			k.Revoked = []RevokedKey{{ID: fixtureID(t, 3), Key: text, Since: issued}}
		})
		if _, err := ParseKeyring(document); err == nil || !strings.Contains(err.Error(), "which is not that key") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestRevokedKeysOfSchema1AreReadAndWrittenAsEver(t *testing.T) {
	r := newRooted(t)
	r.add(2)
	r.revoke(1)
	r.roll(root1, root3)
	r.mustPublish(2, "1.0.0")
	r.mustTake("1.0.0")
	index := sha256Hex(r.read(r.path(indexPath)))
	for name, path := range map[string]string{"keyring-1-revoked.json": r.path(keyringPath), "trust-1-revoked.json": r.state} {
		got := bytes.ReplaceAll(r.read(path), []byte(index), []byte(goldenIndex))
		if !bytes.Equal(untold(got, fixturePublic(t, 2).String()), golden(t, name)) {
			t.Errorf("%s is now written as\n%s", name, got)
		}
	}
	k, err := ParseKeyring(golden(t, "keyring-1-revoked.json"))
	if err != nil || k.Revoked[0].Key != fixturePublic(t, 1).String() || k.revokedAs(fixturePublic(t, 1)) == nil {
		t.Errorf("%+v, %v", k, err)
	}
	s, err := readTrustState(filepath.Join("testdata", "trust-1-revoked.json"))
	if err != nil || !slices.Equal(s.RevokedKeys, []string{fixturePublic(t, 1).String()}) {
		t.Errorf("%+v, %v", s, err)
	}
	s, err = parseTrustState(bytes.Replace(golden(t, "trust-1-revoked.json"), []byte(s.RevokedKeys[0]), []byte("RWQ"), 1))
	if err == nil {
		t.Errorf("keys that make no sense are read as %+v", s)
	}
}
