package release

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
)

// keyringAttack is one thing that whoever has the server, a release key or too
// few roots can do to a repository with keyring 1 and releases by its key,
// from which a host wants 1.1.0.
type keyringAttack struct {
	name string
	do   func(r *rooted)
	want error
	says string
}

func TestHostileKeyringNeverInstallsAnything(t *testing.T) {
	t.Parallel()
	for _, a := range append(keyringSignatureAttacks(), keyringContentAttacks()...) {
		// A host that has accepted keyring 1 before, and one that never saw any.
		for _, seen := range []bool{true, false} {
			name := a.name + ", seen before"
			if !seen {
				name = a.name + ", first look"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r := newRooted(t)
				r.mustPublish(1, "1.0.0")
				if seen {
					r.mustTake("1.0.0")
				}
				r.mustPublish(1, "1.1.0")
				a.do(r)
				before, _ := os.ReadFile(r.state)
				err := r.takes("1.1.0")
				if err == nil || (a.want != nil && !errors.Is(err, a.want)) || !strings.Contains(strings.ReplaceAll(err.Error(), r.dir, ""), a.says) {
					t.Errorf("error %v; want %v that says %q", err, a.want, a.says)
				}
				if more := strings.Contains(err.Error(), "let more roots sign it"); more && strings.Contains(err.Error(), "does not count") {
					t.Errorf("error advises to sign what somebody has changed: %v", err)
				}
				if err != nil && strings.Contains(err.Error(), "\n") {
					t.Errorf("error is no single sentence: %q", err)
				}
				if after, _ := os.ReadFile(r.state); !bytes.Equal(before, after) {
					t.Errorf("what was refused changed trust.json:\n%s", after)
				}
			})
		}
	}
}

func keyringSignatureAttacks() []keyringAttack {
	next := func(r *rooted) []byte { return r.forge(func(*Keyring) {}) }
	return []keyringAttack{
		{"unsigned keyring", func(r *rooted) { r.serve(next(r)) }, ErrUntrusted, "it is not signed: let more roots sign it"},
		{"keyring below the threshold", func(r *rooted) { r.serve(next(r), r.sign(next(r), root1)...) }, ErrUntrusted, "alone"},
		{"one root signs twice", func(r *rooted) {
			again := signAs(fixtureKey(r.tb, root1), next(r), "another comment", "root")
			r.serve(next(r), r.sign(next(r), root1)[0], again)
		}, ErrUntrusted, "alone"},
		{"one root's signature under every name", func(r *rooted) {
			r.serve(next(r), r.sign(next(r), root1, root1, root1)...)
			for _, seed := range []byte{root1, root2, root3} {
				r.write(r.path(keyringSignaturePath(sha256Hex(next(r)), fixtureID(r.tb, seed))), r.sign(next(r), root1)[0])
			}
		}, ErrUntrusted, "alone"},
		{"one root under the id of another", func(r *rooted) {
			other := rawKey(r.tb, fixtureKey(r.tb, root2).ID(), decodedKey(r.tb, mustText(r.tb, fixtureKey(r.tb, root1))))
			r.serve(next(r), r.sign(next(r), root1)[0], signAs(other, next(r), "", "root"))
		}, ErrUntrusted, "does not match"},
		{"keyring signed by strangers", func(r *rooted) { r.serve(next(r), r.sign(next(r), 7, 8)...) }, ErrUntrusted, "signed by key"},
		{"keyring signed by a release key", func(r *rooted) { r.serve(next(r), r.sign(next(r), 1, 1)...) }, ErrUntrusted, "signed by key"},
		{"keyring changed after signing", func(r *rooted) {
			r.serve(r.forge(func(k *Keyring) { k.Sequence = 9 }), r.sign(next(r), root1, root2)...)
		}, ErrUntrusted, "does not match"},
		{"signatures of the keyring before", func(r *rooted) {
			old := r.read(r.path(keyringPath))
			r.serve(next(r), r.sign(old, root1, root2)...)
		}, ErrUntrusted, "does not match"},
		{"legacy signatures without hashing", func(r *rooted) {
			r.serve(next(r), legacy(r, root1, next(r)), legacy(r, root2, next(r)))
		}, ErrUntrusted, "legacy"},
		{"endless signatures", func(r *rooted) {
			r.serve(next(r), bytes.Repeat([]byte("x"), 1<<20), bytes.Repeat([]byte("x"), 1<<20))
		}, ErrUntrusted, "it is not signed"},
		{"garbage for signatures", func(r *rooted) {
			r.serve(next(r), []byte("untrusted comment: \n\n"), []byte{0})
		}, ErrUntrusted, "cannot be read"},
	}
}

func keyringContentAttacks() []keyringAttack {
	signed := func(change func(*Keyring)) func(*rooted) {
		return func(r *rooted) {
			document := r.forge(change)
			r.serve(document, r.sign(document, root1, root2)...)
		}
	}
	raw := func(document func(r *rooted) []byte) func(*rooted) {
		return func(r *rooted) { r.serve(document(r), r.sign(document(r), root1, root2)...) }
	}
	return []keyringAttack{
		{"keyring of another program", signed(func(k *Keyring) { k.Name = "otherd" }), ErrUntrusted, "otherd"},
		{"keyring that lists a root", raw(func(r *rooted) []byte {
			return r.forge(func(k *Keyring) {
				k.Keys = append(k.Keys[:1:1], KeyringKey{Key: fixturePublic(r.tb, root3).String()})
			})
		}), ErrUntrusted, "as a release key"},
		{"sequence beyond what JSON keeps exact", signed(func(k *Keyring) { k.Sequence = maxSequence + 1 }), nil, "sequence"},
		{"huge keyring", func(r *rooted) { r.serve(make([]byte, MaxKeyringSize+1), r.sign(nil, root1, root2)...) }, nil, "at most"},
		{"endless list of keys", raw(func(r *rooted) []byte {
			return []byte(`{"schema":1,"name":"agentd","sequence":2,"issued":"2030-01-01T00:00:00Z","expires":"2031-01-01T00:00:00Z","revoked":[` +
				strings.TrimSuffix(strings.Repeat(`{"id":"00000000000000AA"},`, maxRevoked+1), ",") + `],"keys":[]}`)
		}), nil, "at most"},
		{"deeply nested keyring", raw(func(*rooted) []byte {
			return []byte(`{"schema":1,"x":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`)
		}), nil, "nested deeper"},
		{"member that two readers read differently", raw(func(r *rooted) []byte {
			return bytes.Replace(r.forge(func(*Keyring) {}), []byte(`"name"`), []byte(`"NAME": "otherd", "name"`), 1)
		}), nil, "occurs twice"},
		{"index in place of the keyring", raw(func(r *rooted) []byte { return r.read(r.path(indexPath)) }), nil, "lists no key"},
		{"keyring of a newer schema", signed(func(k *Keyring) { k.Schema = 2 }), nil, "schema 2"},
	}
}

func legacy(r *rooted, seed byte, message []byte) []byte {
	return minisign.Sign(fixtureKey(r.tb, seed), message)
}

func TestHonestKeyringInstalls(t *testing.T) {
	r := newRooted(t)
	r.mustPublish(1, "1.0.0")
	r.mustTake("1.0.0")
	k, err := r.host().Keyring(t.Context())
	if err != nil || k.Sequence != 1 || k.ids() != fixtureID(t, 1) {
		t.Errorf("keyring %+v, %v", k, err)
	}
}

// The name binds a keyring to a program also where the roots are the same.
func TestReleaseByAKeyThatTheKeyringDoesNotAllowIsRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		do   func(r *rooted)
		want error
		says string
	}{
		"index by a key that is not listed": {func(r *rooted) { r.signIndex(2, r.index()) }, ErrUntrusted, "keyring 1 of agentd lists"},
		"index by a root":                   {func(r *rooted) { r.signIndex(root1, r.index()) }, ErrUntrusted, "keyring 1 of agentd lists"},
		"index by a key that claims the id": {func(r *rooted) {
			other := rawKey(r.tb, fixtureKey(r.tb, 1).ID(), privateHalf(r.fixture, 2))
			raw := r.read(r.path(indexPath))
			r.remove(r.path("indexes"))
			r.write(r.path(indexPath+signatureSuffix), sign(other, raw, ""))
		}, ErrUntrusted, "does not match"},
		"manifest by a key that is not listed": {func(r *rooted) {
			r.signManifest(2, "1.1.0", r.read(r.path(manifestPath(r.entry("1.1.0").Manifest))))
		}, ErrUntrusted, "keyring 1 of agentd lists"},
		"index by a key whose time is over": {func(r *rooted) {
			r.add(2)
			if err := r.ring.Retire(fixtureID(r.tb, 1), r.clock.Add(time.Hour)); err != nil {
				r.tb.Fatal(err)
			}
			r.roll(root1, root2)
			r.clock = r.clock.Add(time.Hour)
		}, ErrUntrusted, "index.json in : not trusted: key 0000000000001001 signed until"},
		"index by a key whose time has not come": {func(r *rooted) {
			if err := r.ring.Add(KeyringKey{Key: fixturePublic(r.tb, 2).String(), NotBefore: r.clock.Add(time.Hour)}); err != nil {
				r.tb.Fatal(err)
			}
			r.roll(root1, root2)
			r.signIndex(2, r.index())
		}, ErrUntrusted, "signs from"},
		"manifest older than its key": {func(r *rooted) {
			if err := r.ring.Add(KeyringKey{Key: fixturePublic(r.tb, 2).String(), NotBefore: r.clock.Add(time.Hour)}); err != nil {
				r.tb.Fatal(err)
			}
			r.roll(root1, root2)
			r.signManifest(2, "1.1.0", r.read(r.path(manifestPath(r.entry("1.1.0").Manifest))))
			r.clock = r.clock.Add(2 * time.Hour)
		}, ErrUntrusted, "when the release was made"},
		"index by a revoked key": {func(r *rooted) {
			r.add(2)
			r.revoke(1)
			r.roll(root1, root2)
		}, ErrRevoked, "stolen"},
		"manifest by a revoked key in an index by a good one": {func(r *rooted) {
			r.add(2)
			r.revoke(1)
			r.roll(root1, root2)
			x := r.index()
			x.Sequence++
			r.signIndex(2, x)
		}, ErrRevoked, "manifest of agentd 1.1.0"},
		"expired keyring": {func(r *rooted) {
			r.clock = r.clock.Add(366 * 24 * time.Hour)
			x := r.index()
			x.Expires = r.clock.Add(time.Hour)
			x.Sequence++
			r.signIndex(1, x)
		}, ErrExpired, "keyring 1"},
		"no keyring": {func(r *rooted) { r.withhold() }, ErrUntrusted, "accepted none yet"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRooted(t)
			r.mustPublish(1, "1.0.0")
			r.mustPublish(1, "1.1.0")
			tt.do(r)
			err := r.takes("1.1.0")
			if !errors.Is(err, tt.want) || !strings.Contains(strings.ReplaceAll(err.Error(), r.dir, ""), tt.says) {
				t.Errorf("error %v; want %v that says %q", err, tt.want, tt.says)
			}
			if errors.Is(err, ErrRevoked) && !errors.Is(err, ErrUntrusted) {
				t.Errorf("%v is ErrRevoked and not ErrUntrusted", err)
			}
		})
	}
}
