package fleetsim_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/perennial-go/perennial/examples/fleetsim"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

//nolint:gochecknoglobals // flags
var (
	seeds    = flag.Int("sim.seeds", 200, "how many fleets are simulated, a `number`")
	first    = flag.Uint64("sim.first", 1, "the `seed` of the first")
	step     = flag.Uint64("sim.step", 1, "the `distance` of two seeds: 20 from 20 on makes all of them the hundred canaries of which one fails")
	together = flag.Int("sim.parallel", 10, "how many are simulated at the same time, a `number`")
	verbose  = flag.Bool("sim.verbose", false, "tell of each fleet")
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(400) // memory is not what this is short of
	if err := inMemory(); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

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
	reports, began := t.TempDir(), time.Now()
	var log tally
	var slow machine
	watched, end := context.WithCancel(t.Context())
	var watching errgroup.Group
	watching.Go(func() error { return slow.watch(watched, reports) })
	client := server.Client(t)
	watching.Go(func() error { return slow.echo(watched, client) })
	defer func() {
		end()
		if err := watching.Wait(); err != nil {
			t.Error(err)
		}
	}()
	all, _ := errgroup.WithContext(context.WithoutCancel(t.Context()))
	all.SetLimit(*together)
	for i := range *seeds {
		seed := *first + uint64(i)**step //nolint:gosec // it is positive
		all.Go(func() error {
			s := newScenario(seed)
			dir := filepath.Join(reports, strconv.FormatUint(seed, 10))
			start := time.Now()
			var end ending
			err := os.Mkdir(dir, 0o700)
			if err == nil {
				end, err = s.run(t, server, dir, &slow)
			}
			if err != nil {
				t.Errorf("%v\nrepeat with -sim.first=%d -sim.seeds=1\n%v", s, seed, err)
			} else if *verbose {
				t.Logf("%v: %s: %v", time.Since(start).Round(time.Millisecond), end.state, s)
			}
			if len(end.excuses) > 0 {
				t.Logf("seed %d is excused: %v", seed, end.excuses)
			}
			log.add(s, end, err)
			return nil
		})
	}
	_ = all.Wait() // each tells of its own
	t.Logf("%d fleets, seeds from %d, in %v; %v", *seeds, *first, time.Since(began).Round(time.Millisecond), &log)
	if *seeds >= 200 && *step == 1 {
		log.check(t)
	}
}

// tally is what there was in all fleets.
type tally struct {
	mu              sync.Mutex
	failed, excused []uint64
	one             int // fleets of which one canary in a hundred failed, and no other agent began
	ends            map[string]int
	struck          map[faultKind]int
}

func (l *tally) add(s scenario, end ending, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ends == nil {
		l.ends, l.struck = map[string]int{}, map[faultKind]int{}
	}
	switch {
	case err != nil:
		l.failed = append(l.failed, s.seed)
	case len(end.excuses) > 0:
		l.excused = append(l.excused, s.seed)
	case s.seed%20 == 0:
		l.one++
	}
	l.ends[ending{state: end.state}.of(s)]++
	for _, kind := range end.struck {
		l.struck[kind]++
	}
}

// of names an end by what led to it.
func (e ending) of(s scenario) string {
	if s.bad == fleetsim.Works {
		return fmt.Sprintf("%s, good: %s", s.strategy, e.state)
	}
	return fmt.Sprintf("%s: %s", s.bad, e.state)
}

func (l *tally) String() string {
	return fmt.Sprintf("one canary in a hundred stopped %d; failed: %v; excused: %v; %v; %v", l.one, l.failed, l.excused, l.ends, l.struck)
}

// check has all seeds together be worth something: each way to fail sends fleets
// back, each strategy completes, each fault strikes.
func (l *tally) check(t *testing.T) {
	t.Helper()
	for _, bad := range fates() {
		if l.ends[ending{state: rollout.Reverted}.of(scenario{bad: bad})] == 0 {
			t.Errorf("no fleet went back for a release that %s", bad)
		}
	}
	for _, s := range strategies() {
		if l.ends[ending{state: rollout.Completed}.of(scenario{strategy: s})] == 0 {
			t.Errorf("no rollout by %s completed", s)
		}
	}
	for _, kind := range faultKinds() {
		if l.struck[kind] == 0 {
			t.Errorf("it never came about that %s", kind)
		}
	}
}
