package release

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
)

// Seeds of the root keys; two of the three must sign.
const root1, root2, root3 byte = 101, 102, 103

func rootTrust(tb testing.TB) Trust {
	tb.Helper()
	return Trust{Roots: fixtureTrust(tb, root1, root2, root3).Keys, Threshold: 2}
}

func fixturePublic(tb testing.TB, seed byte) minisign.PublicKey {
	tb.Helper()
	return fixtureTrust(tb, seed).Keys[0]
}

func fixtureID(tb testing.TB, seed byte) string {
	tb.Helper()
	return KeyID(fixturePublic(tb, seed))
}

// rooted is a fixture whose repository has a keyring.
type rooted struct {
	*fixture
	ring *Keyring
}

// newRooted has keyring 1, which lists the key of seed 1, and no release.
func newRooted(tb testing.TB) *rooted {
	tb.Helper()
	ring, err := NewKeyring("agentd")
	if err != nil {
		tb.Fatal(err)
	}
	r := &rooted{newFixture(tb), ring}
	r.add(1)
	r.roll(root1, root2)
	return r
}

func (r *rooted) add(seed byte) {
	r.tb.Helper()
	if err := r.ring.Add(KeyringKey{Key: fixturePublic(r.tb, seed).String(), Comment: "a test's"}); err != nil {
		r.tb.Fatal(err)
	}
}

func (r *rooted) revoke(seed byte) {
	r.tb.Helper()
	if err := r.ring.Revoke(fixtureID(r.tb, seed), "stolen", r.clock); err != nil {
		r.tb.Fatal(err)
	}
}

// issue returns the next document.
func (r *rooted) issue() []byte {
	r.tb.Helper()
	document, err := r.ring.Issue(r.clock, 365*24*time.Hour)
	if err != nil {
		r.tb.Fatal(err)
	}
	return document
}

func (r *rooted) sign(document []byte, roots ...byte) (signatures [][]byte) {
	r.tb.Helper()
	for _, seed := range roots {
		signatures = append(signatures, signAs(fixtureKey(r.tb, seed), document, "agentd keyring", "root"))
	}
	return signatures
}

func (r *rooted) install(document []byte, signatures ...[]byte) error {
	r.tb.Helper()
	_, err := InstallKeyring(context.Background(), KeyringConfig{Dir: r.dir, Trust: rootTrust(r.tb), Now: r.now}, document, signatures...)
	return err
}

// roll issues, signs and installs the next keyring.
func (r *rooted) roll(roots ...byte) {
	r.tb.Helper()
	document := r.issue()
	if err := r.install(document, r.sign(document, roots...)...); err != nil {
		r.tb.Fatal(err)
	}
}

// serve lays a keyring out as whoever has the server can: without a check,
// each signature under the name of the root that stands at its place.
func (r *rooted) serve(document []byte, signatures ...[]byte) {
	r.tb.Helper()
	r.withhold()
	r.write(r.path(keyringPath), document)
	for i, seed := range []byte{root1, root2, root3}[:len(signatures)] {
		r.write(r.path(keyringCopyPath(fixtureID(r.tb, seed))), signatures[i])
	}
}

// withhold removes all that is of a keyring.
func (r *rooted) withhold() {
	r.tb.Helper()
	r.remove(r.path("keyrings"))
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		r.tb.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), keyringPath) {
			r.remove(r.path(e.Name()))
		}
	}
}

// forge encodes a keyring that the publisher's operations would not make.
func (r *rooted) forge(change func(*Keyring)) []byte {
	r.tb.Helper()
	k := *r.ring
	k.Keys = slices.Clone(k.Keys)
	k.Sequence++
	change(&k)
	raw, err := encodeDocument(&k)
	if err != nil {
		r.tb.Fatal(err)
	}
	return raw
}

// host is a client that trusts the roots.
func (r *rooted) host() *Client {
	r.tb.Helper()
	return r.hostOf(r.source(), rootTrust(r.tb))
}

func (r *rooted) hostOf(src Source, trust Trust) *Client {
	r.tb.Helper()
	c, err := NewClient(ClientConfig{
		Source: src, Trust: trust, Name: "agentd", StateFile: r.state,
		OS: "linux", Arch: "amd64", Now: r.now,
	})
	if err != nil {
		r.tb.Fatal(err)
	}
	return c
}

// takes does what a host does with a version.
func (r *rooted) takes(version string) error {
	r.tb.Helper()
	_, err := r.fixture.install(context.Background(), r.host(), version)
	return err
}

// mustTake fails the test if the host does not take the version.
func (r *rooted) mustTake(version string) {
	r.tb.Helper()
	if err := r.takes(version); err != nil {
		r.tb.Fatalf("%s is not taken: %v", version, err)
	}
}

// publishAs publishes a version with a key, which may extend what the keys in
// extend have signed.
func (r *rooted) publishAs(seed byte, version string, extend ...byte) error {
	r.tb.Helper()
	r.clock = r.clock.Add(time.Second)
	_, err := r.publisher(seed, extend...).Publish(context.Background(), r.release(version))
	return err
}

// publisher knows the roots.
func (r *rooted) publisher(seed byte, extend ...byte) *Repository {
	r.tb.Helper()
	trust := rootTrust(r.tb)
	trust.Keys = fixtureTrust(r.tb, extend...).Keys
	repo, err := NewRepository(RepositoryConfig{Dir: r.dir, Key: fixtureKey(r.tb, seed), Trust: trust, Validity: fixtureValidity, Now: r.now, PlainOnly: true})
	if err != nil {
		r.tb.Fatal(err)
	}
	return repo
}

func (r *rooted) mustPublish(seed byte, version string, extend ...byte) {
	r.tb.Helper()
	if err := r.publishAs(seed, version, extend...); err != nil {
		r.tb.Fatal(err)
	}
}
