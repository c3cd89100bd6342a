package upgrade

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade/release"
)

// newCachingRig is a watching rig whose agent reads by way of a cache that asks
// for what it lacks.
func newCachingRig(t *testing.T) *rig {
	t.Helper()
	r := newWatchingRig(t)
	r.env.Cache, r.env.Pull = filepath.Join(t.TempDir(), "cache"), release.PullIfNotPresent
	return r
}

// TestLooksHearOfAYankPastACache: the kept index would do for as long as it is
// valid.
func TestLooksHearOfAYankPastACache(t *testing.T) {
	t.Parallel()
	r := newCachingRig(t)
	r.first(build{Version: "1.0.0"})
	r.upgraded("1.1.0")
	other := r.publish(build{Version: "1.2.0"})
	r.yank("1.1.0", "loses records")
	r.tells("loses records")
	// What a look has heard holds for orders, too.
	r.yank("1.2.0", "crashes")
	r.yank("1.1.0", "")
	r.tells("")
	r.askAs(other, "yanked")
	if s := r.ends("yanked"); s.State != Failed || !strings.Contains(s.Reason, "release withdrawn") {
		t.Errorf("%s: %s", s.State, s.Reason)
	}
}

// TestLooksHearOfARevocationPastACache: the revoked key's own index, which is
// kept and valid, would let its releases in.
func TestLooksHearOfARevocationPastACache(t *testing.T) {
	t.Parallel()
	r := newCachingRig(t)
	k := newKeyholder(t, r)
	publicA, keyA := newKey(t)
	publicB, _ := newKey(t)
	k.add(publicA)
	k.add(publicB)
	k.roll()
	r.first(build{Version: "1.0.0"})
	k.signWith(keyA)
	stolen := r.publish(build{Version: "1.2.0"})
	r.commits(build{Version: "1.1.0"})
	if err := k.ring.Revoke(release.KeyID(publicA), "stolen", time.Now()); err != nil {
		t.Fatal(err)
	}
	k.roll()
	waittest.Nil(t, "a look accepts the revocation", func() error {
		raw, err := os.ReadFile(filepath.Join(r.env.StateDir, trustFile))
		if err != nil {
			return err
		}
		var state struct{ Revoked []string }
		if err := json.Unmarshal(raw, &state); err != nil || !slices.Contains(state.Revoked, release.KeyID(publicA)) {
			return fmt.Errorf("the host knows of %q (%w)", state.Revoked, err)
		}
		return nil
	})
	r.askAs(stolen, "stolen")
	if s := r.ends("stolen"); s.State != Failed || !strings.Contains(s.Reason, "key revoked") {
		t.Errorf("a release of a revoked key: %s: %s", s.State, s.Reason)
	}
	r.serves("1.1.0")
}

// TestLooksGoByTheCacheWhileTheRepositoryIsAway: a host that starts without its
// repository knows what the cache knows, and says that it hears of nothing new.
func TestLooksGoByTheCacheWhileTheRepositoryIsAway(t *testing.T) {
	t.Parallel()
	r := newCachingRig(t)
	r.first(build{Version: "1.0.0"})
	r.upgraded("1.1.0")
	r.yank("1.1.0", "loses records")
	r.tells("loses records")
	if err := os.RemoveAll(r.env.Repository); err != nil {
		t.Fatal(err)
	}
	r.stop()
	r.awaitFree()
	if err := os.Remove(filepath.Join(r.env.StateDir, withdrawnFile)); err != nil {
		t.Fatal(err)
	}
	r.start(makeBinary(r, build{Version: "1.1.0"}))
	r.tells("loses records")
	waittest.Until(t, "the loss is logged", func() bool { return strings.Contains(r.logged(), "index cannot be looked at") })
}
