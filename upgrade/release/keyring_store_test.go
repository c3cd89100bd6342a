package release

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/failpoint"
)

func TestInstallRefusesWhatHostsWouldRefuse(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		do   func(r *rooted) error
		want error
		says string
	}{
		"below the threshold": {func(r *rooted) error {
			document := r.issue()
			return r.install(document, r.sign(document, root1)...)
		}, ErrUntrusted, "alone"},
		"one root twice": {func(r *rooted) error {
			document := r.issue()
			return r.install(document, r.sign(document, root1, root1)...)
		}, ErrUntrusted, "alone"},
		"older sequence": {func(r *rooted) error {
			old := r.issue()
			r.roll(root1, root2)
			return r.install(old, r.sign(old, root1, root2)...)
		}, ErrReplay, "keyring 3 is installed"},
		"same sequence, other bytes": {func(r *rooted) error {
			fork := r.forge(func(k *Keyring) { k.Keys[0].Comment = "fork" })
			r.roll(root1, root2)
			return r.install(fork, r.sign(fork, root1, root2)...)
		}, ErrReplay, "sequence 2"},
		"expired": {func(r *rooted) error {
			document := r.issue()
			r.clock = r.clock.Add(366 * 24 * time.Hour)
			return r.install(document, r.sign(document, root1, root2)...)
		}, ErrExpired, "sign a new one"},
		"another program's": {func(r *rooted) error {
			document := r.forge(func(k *Keyring) { k.Name = "otherd" })
			return r.install(document, r.sign(document, root1, root2)...)
		}, nil, "otherd"},
		"other roots than those of the one that is there": {func(r *rooted) error {
			document := r.issue()
			_, err := InstallKeyring(context.Background(), KeyringConfig{Dir: r.dir, Trust: Trust{Roots: fixtureTrust(t, 104).Keys}, Now: r.now}, document, r.sign(document, 104)...)
			return err
		}, ErrUntrusted, "not replaced"},
		"no roots": {func(r *rooted) error {
			_, err := InstallKeyring(context.Background(), KeyringConfig{Dir: r.dir, Trust: fixtureTrust(t, 1)}, r.issue())
			return err
		}, ErrUntrusted, "give the roots"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRooted(t)
			before := string(r.read(r.path(keyringPath)))
			err := tt.do(r)
			if err == nil || (tt.want != nil && !errors.Is(err, tt.want)) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v; want %v that says %q", err, tt.want, tt.says)
			}
			r.clock = issued
			if _, err := r.host().Keyring(t.Context()); err != nil {
				t.Errorf("the repository has no good keyring now: %v", err)
			}
			// Where it is a replay, the test itself has installed another.
			if errors.Is(tt.want, ErrReplay) != (string(r.read(r.path(keyringPath))) != before) {
				t.Error("the keyring was replaced")
			}
		})
	}
}

func TestPublisherWithAKeyThatTheKeyringDoesNotAllowIsRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		do   func(r *rooted) error
		want error
		says string
	}{
		"not listed": {func(r *rooted) error { return r.publishAs(2, "1.1.0") }, ErrUntrusted, "may not sign releases of agentd, keyring 1 lists"},
		"revoked": {func(r *rooted) error {
			r.revoke(1)
			r.roll(root1, root2)
			return r.publishAs(1, "1.1.0")
		}, ErrRevoked, "stolen"},
		"time is over": {func(r *rooted) error {
			if err := r.ring.Retire(fixtureID(t, 1), r.clock); err != nil {
				t.Fatal(err)
			}
			r.roll(root1, root2)
			return r.publishAs(1, "1.1.0")
		}, ErrUntrusted, "signed until"},
		"release older than the key": {func(r *rooted) error {
			if err := r.ring.Add(KeyringKey{Key: fixturePublic(t, 2).String(), NotBefore: r.clock}); err != nil {
				t.Fatal(err)
			}
			r.roll(root1, root2)
			rel := r.release("1.1.0")
			rel.Created = r.clock.Add(-time.Hour)
			_, err := r.publisher(2).Publish(context.Background(), rel)
			return err
		}, ErrUntrusted, "signs from"},
		"not listed, without roots": {func(r *rooted) error {
			_, err := r.repository(2).Publish(context.Background(), r.release("1.1.0"))
			return err
		}, ErrUntrusted, "may not sign"},
		"yank":    {func(r *rooted) error { return r.repository(2).Yank(context.Background(), "agentd", "1.0.0", "x") }, ErrUntrusted, "may not sign"},
		"refresh": {func(r *rooted) error { return r.repository(2).Refresh(context.Background(), "agentd") }, ErrUntrusted, "may not sign"},
		"no keyring where roots want one": {func(r *rooted) error {
			r.withhold()
			return r.publishAs(1, "1.1.0")
		}, ErrNotFound, "install it first"},
		"forged keyring": {func(r *rooted) error {
			document := r.forge(func(*Keyring) {})
			r.serve(document, r.sign(document, 1, 1)...)
			return r.publishAs(1, "1.1.0")
		}, ErrUntrusted, "wants signatures"},
		"index of a revoked key that nobody vouches for": {func(r *rooted) error {
			r.add(2)
			r.revoke(1)
			r.roll(root1, root2)
			return r.publishAs(2, "1.1.0")
		}, ErrRevoked, "not extended"},
		// Nobody has signed this keyring, so no index is extended for it.
		"index of a key in a forged keyring, without roots": {func(r *rooted) error {
			r.add(2)
			document := r.issue()
			r.serve(document)
			_, err := r.repository(2).Publish(context.Background(), r.release("1.1.0"))
			return err
		}, ErrUntrusted, "not extended"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRooted(t)
			r.mustPublish(1, "1.0.0")
			before := string(r.read(r.path(indexPath)))
			err := tt.do(r)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v; want %v that says %q", err, tt.want, tt.says)
			}
			if string(r.read(r.path(indexPath))) != before {
				t.Error("the index was written")
			}
		})
	}
}

func TestKeysOfTheKeyringExtendEachOthersIndex(t *testing.T) {
	r := newRooted(t)
	r.add(2)
	r.roll(root1, root2)
	r.mustPublish(1, "1.0.0")
	r.mustPublish(2, "1.1.0")
	r.mustPublish(1, "1.2.0")
	for _, v := range []string{"1.0.0", "1.1.0", "1.2.0"} {
		r.mustTake(v)
	}
}

func TestReleaseOfARetiredKeyStaysGood(t *testing.T) {
	r := newRooted(t)
	r.mustPublish(1, "1.0.0")
	r.add(2)
	if err := r.ring.Retire(fixtureID(t, 1), r.clock.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	r.roll(root1, root2)
	r.mustPublish(2, "1.1.0")
	r.clock = r.clock.Add(2 * time.Hour)
	r.mustTake("1.0.0")
	r.mustTake("1.1.0")
}

func TestReleaseOfARevokedKeyIsGoodAgainOncePublishedAnew(t *testing.T) {
	r := newRooted(t)
	created := r.release("1.0.0")
	r.mustPublish(1, "1.0.0")
	r.add(2)
	r.revoke(1)
	r.roll(root1, root2)
	r.mustPublish(2, "1.1.0", 1)
	if err := r.takes("1.0.0"); !errors.Is(err, ErrRevoked) {
		t.Fatalf("signed by a revoked key: %v", err)
	}
	pin := r.entry("1.0.0").Pin()
	got, err := r.repository(2).Publish(t.Context(), created)
	if err != nil || got != pin {
		t.Fatalf("published anew as %v (%v), want %v", got, err, pin)
	}
	r.mustTake("1.0.0")
}

// A publisher of keyrings that dies at any step leaves one that reads as
// before or as after, and the next one finishes.
func TestKeyringPublisherThatDiesLeavesOneThatReads(t *testing.T) {
	for point, want := range map[string]int64{"keyring.document": 1, "keyring.copies": 2} {
		t.Run(point, func(t *testing.T) {
			r := newRooted(t)
			r.add(2)
			document := r.issue()
			if err := failpoint.Arm(point + "=error"); err != nil {
				t.Fatal(err)
			}
			err := r.install(document, r.sign(document, root2, root3)...)
			if armErr := failpoint.Arm(""); armErr != nil || err == nil {
				t.Fatalf("%v, %v: want the failpoint's error", err, armErr)
			}
			k, err := r.host().Keyring(t.Context())
			if err != nil || k.Sequence != want {
				t.Fatalf("after a death at %s: keyring %+v (%v), want %d", point, k, err, want)
			}
			if err := r.install(document, r.sign(document, root2, root3)...); err != nil {
				t.Fatal(err)
			}
			if k, err := r.host().Keyring(t.Context()); err != nil || k.Sequence != 2 {
				t.Errorf("installed again: keyring %+v (%v)", k, err)
			}
			for seed, there := range map[byte]bool{root1: false, root2: true, root3: true} {
				if _, err := os.Stat(r.path(keyringCopyPath(fixtureID(t, seed)))); (err == nil) != there || (err != nil && !errors.Is(err, fs.ErrNotExist)) {
					t.Errorf("copy of the signature of %s: %v, want it there: %v", fixtureID(t, seed), err, there)
				}
			}
		})
	}
}

// The keyring is replaced before the index by a new key, and a host may read
// the one before the other.
func TestKeyringAndIndexReplacedBetweenTwoReadsIsNoError(t *testing.T) {
	r := newRooted(t)
	r.mustPublish(1, "1.0.0")
	r.mustTake("1.0.0")
	src := &changingSource{Source: r.source(), change: func() {
		r.add(2)
		r.roll(root1, root2)
		r.mustPublish(2, "1.1.0")
	}}
	c := r.hostOf(src, rootTrust(t))
	x, err := c.Index(t.Context())
	if err != nil || x.Sequence != 2 {
		t.Errorf("index %+v, %v", x, err)
	}
}
