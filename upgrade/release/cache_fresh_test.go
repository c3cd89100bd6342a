package release

import (
	"errors"
	"slices"
	"testing"
)

// TestFreshIndexAsksTheRepositoryWhereTheCacheWouldDo: a release that is
// withdrawn would else be offered as long as the kept index is valid.
func TestFreshIndexAsksTheRepositoryWhereTheCacheWouldDo(t *testing.T) {
	t.Parallel()
	for pull, asks := range map[PullPolicy]bool{PullAlways: true, PullIfNotPresent: true, PullNever: false} {
		t.Run(string(pull), func(t *testing.T) {
			t.Parallel()
			f := newCacheFixture(t)
			f.mustInstall(PullAlways, "1.1.0")
			f.publish("1.2.0")
			f.source.take()
			c := f.host(pull)
			x, err := c.FreshIndex(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if asked := slices.Contains(f.source.take(), indexPath); asked != asks || (len(x.Releases) == 3) != asks {
				t.Errorf("the repository was asked: %v, want %v; %d releases", asked, asks, len(x.Releases))
			}
			// What was heard is kept for whoever reads by the cache.
			if x, err = c.Index(t.Context()); err != nil || (len(x.Releases) == 3) != asks {
				t.Errorf("%d releases afterwards (%v)", len(x.Releases), err)
			}
		})
	}
}

func TestFreshIndexOfARepositoryThatIsAwayAcceptsWhatIsKept(t *testing.T) {
	t.Parallel()
	f := newCacheFixture(t)
	f.mustInstall(PullAlways, "1.1.0")
	f.remove(f.dir)
	c := f.host(PullIfNotPresent)
	if _, err := c.FreshIndex(t.Context()); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v, want %v", err, ErrNotFound)
	}
	if x := c.Accepted(); x == nil || len(x.Releases) != 2 {
		t.Errorf("accepted is %+v", x)
	}
}
