package fleetsim_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/perennial-go/perennial/internal/etcdtest"
)

//nolint:gochecknoglobals // flags
var (
	seeds    = flag.Int("sim.seeds", 200, "how many fleets are simulated, a `number`")
	first    = flag.Uint64("sim.first", 1, "the `seed` of the first")
	step     = flag.Uint64("sim.step", 1, "the `distance` of two seeds: 20 from 20 on makes all of them the hundred canaries of which one fails")
	together = flag.Int("sim.parallel", 10, "how many are simulated at the same time, a `number`")
	verbose  = flag.Bool("sim.verbose", false, "tell of each fleet")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What must hold whatever happens: no more agents are down than may be, each
// step of the controller is one write with its record, one bad canary in a
// hundred keeps the release from all others, nobody is left on a release that
// was reverted, and the books are right. Each seed is a fleet of its own with a
// strategy, a fate and faults.
func TestFleetUnderFaultsNeverHasMoreAgentsDownThanAllowedNorLeavesOneOnABadRelease(t *testing.T) {
	if testing.Short() {
		t.Skip("it simulates hundreds of fleets")
	}
	server := etcdtest.Start(t)
	began := time.Now()
	var failed []uint64
	var mu sync.Mutex
	var done atomic.Int64
	all, _ := errgroup.WithContext(context.WithoutCancel(t.Context()))
	all.SetLimit(*together)
	for i := range *seeds {
		seed := *first + uint64(i)**step //nolint:gosec // it is positive
		all.Go(func() error {
			s := newScenario(seed)
			dir := filepath.Join(t.TempDir(), strconv.FormatUint(seed, 10))
			err := os.Mkdir(dir, 0o700)
			start := time.Now()
			if err == nil {
				err = s.run(t, server, dir)
			}
			if err != nil {
				t.Errorf("%v\nrepeat with -sim.first=%d -sim.seeds=1\n%v", s, seed, err)
				mu.Lock()
				failed = append(failed, seed)
				mu.Unlock()
			} else if *verbose {
				t.Logf("%v: %v", time.Since(start).Round(time.Millisecond), s)
			}
			done.Add(1)
			return nil
		})
	}
	_ = all.Wait() // each tells of its own
	t.Logf("%d fleets, seeds from %d, in %v; failed: %v", done.Load(), *first, time.Since(began).Round(time.Millisecond), failed)
}
