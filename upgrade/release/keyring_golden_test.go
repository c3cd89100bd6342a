package release

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"
)

// goldenIndex is the index's digest in trust-1-keyring.json.
const goldenIndex = "b4aa7dde9afdecd275cf64a90f9f516a0dd942e6361c8a015aa9939c3eb2269e"

// goldenKeyring is what the golden files were made from.
func goldenKeyring(t *testing.T) *rooted {
	t.Helper()
	r := newRooted(t)
	err := r.ring.Add(KeyringKey{
		Key: fixturePublic(t, 2).String(), Comment: "build <machine>",
		NotBefore: issued, NotAfter: issued.Add(90 * 24 * time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.revoke(1)
	r.ring.Revoked[0].Key = "" // they are of a release that knew ids alone
	r.roll(root1, root3)
	r.mustPublish(2, "1.0.0")
	r.mustTake("1.0.0")
	return r
}

func TestKeyringOfSchema1IsWrittenAsEver(t *testing.T) {
	r := goldenKeyring(t)
	for name, path := range map[string]string{
		"keyring-1.json": r.path(keyringPath),
		"keyring-1.json.0000000000001065.minisig": r.path(keyringCopyPath(fixtureID(t, root1))),
		"keyring-1.json.0000000000001067.minisig": r.path(keyringCopyPath(fixtureID(t, root3))),
		"trust-1-keyring.json":                    r.state,
	} {
		// The index has a golden file of its own.
		index := sha256Hex(r.read(r.path(indexPath)))
		got := bytes.ReplaceAll(r.read(path), []byte(index), []byte(goldenIndex))
		if got, want := untold(got, fixturePublic(t, 2).String()), golden(t, name); !bytes.Equal(got, want) {
			t.Errorf("%s is now written as\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestKeyringOfSchema1IsReadAsEver(t *testing.T) {
	trust, err := LoadRoots(filepath.Join("testdata", "roots-1.pub"), 2)
	if err != nil {
		t.Fatal(err)
	}
	k, err := trust.VerifyKeyring(golden(t, "keyring-1.json"), golden(t, "keyring-1.json.0000000000001067.minisig"), golden(t, "keyring-1.json.0000000000001065.minisig"))
	if err != nil {
		t.Fatal(err)
	}
	if k.Name != "agentd" || k.Sequence != 2 || k.ids() != "0000000000001002" || k.Keys[0].Comment != "build <machine>" ||
		!k.Keys[0].NotAfter.Equal(issued.Add(90*24*time.Hour)) || k.revoked("0000000000001001") == nil {
		t.Errorf("keyring is %+v", k)
	}
	state, err := readTrustState(filepath.Join("testdata", "trust-1-keyring.json"))
	if err != nil {
		t.Fatal(err)
	}
	inForce, err := state.keyring(trust)
	if err != nil || inForce.Sequence != 2 {
		t.Errorf("in force is %+v (%v)", inForce, err)
	}
	if len(state.Revoked) != 1 || len(state.Marks) != 1 || state.Marks[0].Key != "0000000000001002" || state.Marks[0].Sequence != 1 {
		t.Errorf("revoked %v, marks %+v", state.Revoked, state.Marks)
	}
}

// A state of this release must not stop an older one, after a rollback.
func TestMembersAboutKeysThatBecomeEmptyGo(t *testing.T) {
	s, err := parseTrustState(golden(t, "trust-1-keyring.json"))
	if err != nil {
		t.Fatal(err)
	}
	s.Marks = nil
	raw, err := s.encode()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := parseTrustState(raw); err != nil || len(again.Marks) != 0 || again.Keyring == nil {
		t.Errorf("read as %+v (%v)", again, err)
	}
}
