package release

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// youngKey has 1.0.0 by a revoked key, and a key that signs only from an hour
// later on.
func youngKey(t *testing.T) (*rooted, Release) {
	t.Helper()
	r := newRooted(t)
	r.mustPublish(1, "1.0.0")
	if err := r.ring.Add(KeyringKey{Key: fixturePublic(t, 2).String(), NotBefore: r.clock.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	r.clock = r.clock.Add(2 * time.Hour)
	return r, r.release("1.0.0")
}

func TestReleaseIsNotSignedAnewByAKeyThatSignedOnlyLater(t *testing.T) {
	t.Parallel()
	r, again := youngKey(t)
	r.revoke(1)
	r.roll(root1, root2)
	signature := r.path(manifestPath(r.entry("1.0.0").Manifest) + signatureSuffix)
	before := string(r.read(signature))
	if _, err := r.publisher(2, 1).Publish(t.Context(), again); !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), "signs from") {
		t.Errorf("error %v; want one about the time of the key", err)
	}
	if string(r.read(signature)) != before {
		t.Error("the manifest was signed by a key that hosts refuse for it")
	}
}

func TestKeyThatSignsOnlyLaterMendsBinariesOfAnEarlierRelease(t *testing.T) {
	t.Parallel()
	r, again := youngKey(t)
	r.roll(root1, root2)
	r.remove(r.path(blobPath(sha256Hex(content("1.0.0")))))
	if _, err := r.publisher(2).Publish(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	r.mustTake("1.0.0")
}
