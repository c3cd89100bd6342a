package release

import (
	"errors"
	"path/filepath"
	"testing"
)

// keptKeyring is a host's look at a repository by way of a cache.
func keptKeyring(r *rooted, cache string, pull PullPolicy) (*Keyring, error) {
	r.tb.Helper()
	c, err := NewCache(CacheConfig{Dir: cache, Source: r.source(), Pull: pull})
	if err != nil {
		r.tb.Fatal(err)
	}
	return r.hostOf(c, rootTrust(r.tb)).Keyring(r.tb.Context())
}

func TestKeptKeyringIsReadWithoutAskingWhicheverRootsHaveSigned(t *testing.T) {
	t.Parallel()
	for name, roots := range map[string][]byte{"first two": {root1, root2}, "last two": {root2, root3}, "outer two": {root1, root3}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRooted(t)
			r.add(2)
			r.roll(roots...)
			cache := filepath.Join(t.TempDir(), "cache")
			if _, err := keptKeyring(r, cache, PullIfNotPresent); err != nil {
				t.Fatal(err)
			}
			r.remove(r.state) // another host with the same cache
			if k, err := keptKeyring(r, cache, PullNever); err != nil || k.Sequence != 2 {
				t.Errorf("keyring %+v, %v", k, err)
			}
		})
	}
}

func TestCacheWithoutAKeyringLeavesTheAcceptedOneInForce(t *testing.T) {
	t.Parallel()
	r := newRooted(t)
	empty := filepath.Join(t.TempDir(), "cache")
	if k, err := keptKeyring(r, empty, PullNever); !errors.Is(err, ErrNotCached) {
		t.Errorf("a host that has accepted none: keyring %+v, %v", k, err)
	}
	if _, err := r.host().Keyring(t.Context()); err != nil {
		t.Fatal(err)
	}
	if k, err := keptKeyring(r, empty, PullNever); err != nil || k.Sequence != 1 {
		t.Errorf("keyring %+v, %v", k, err)
	}
}
