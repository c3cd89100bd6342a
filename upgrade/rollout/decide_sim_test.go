package rollout_test

import (
	"container/heap"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
	. "github.com/perennial-go/perennial/upgrade/rollout"
)

// seeds is how many fleets each test of the engine goes through.
var seeds = flag.Int("rollout.seeds", 25, "how many seeds the pure simulation of rollouts goes through")

// A world is a fleet in which time is a number: agents as small state machines,
// a registry, and a controller that decides whenever something has changed.
type world struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand
	cfg  worldConfig

	now    time.Time
	events events
	order  int

	revision int64
	plan     Plan
	books    Books
	freeze   *Freeze
	writes   []Draft
	agents   []*simAgent

	shown   map[string]*Member // what the controller sees of the registry
	seen    int64
	watched Departures
	due     time.Time // of the next decision
	checks  map[string]CheckResult
	answers func(Check) Verdict

	compiled    *Admission
	compiledSeq int64
	compiledOf  string
}

type worldConfig struct {
	agents    int
	bad       float64       // of agents that cannot change
	hang      float64       // of agents that never end
	kills     bool          // the bad die of it
	lag       time.Duration // of all that is told
	partition float64       // of agents, at some time
	deaths    float64
	revokes   float64 // of leases, before their time
	joins     int
	limit     int // that is never to be exceeded; 0 = none
	until     time.Duration
	rest      int           // every which agent is not for test; 0 = three of four are not
	pause     time.Duration // between decisions
}

const (
	simTTL      = 3 * time.Second
	simDeadline = 20 * time.Second
	goodDigest  = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	badDigest   = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

type event struct {
	at    time.Time
	order int
	do    func()
}

//nolint:recvcheck // as container/heap has it
type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at.Before(e[j].at) || e[i].at.Equal(e[j].at) && e[i].order < e[j].order
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func newWorld(t *testing.T, seed uint64, plan Plan, cfg worldConfig) *world {
	w := &world{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), cfg: cfg, now: time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC),
		shown: map[string]*Member{}, checks: map[string]CheckResult{}, revision: 10,
	}
	for range cfg.agents {
		w.join()
	}
	plan.Created, plan.Since = w.now, w.now
	plan.Deadline = Seconds(simDeadline.Seconds())
	plan.ID = fmt.Sprintf("r%d", seed)
	w.plan = plan.WithDefaults()
	if err := w.plan.Validate(); err != nil {
		t.Fatal(err)
	}
	w.tell()
	for range cfg.joins {
		w.after(w.spread(cfg.until/2), func() { w.join() })
	}
	for _, a := range w.agents {
		if w.rng.Float64() < cfg.partition {
			w.after(w.spread(cfg.until/3), func() { a.partition(w.spread(3 * simTTL)) })
		}
		if w.rng.Float64() < cfg.deaths {
			w.after(w.spread(cfg.until/3), a.die)
		}
		if w.rng.Float64() < cfg.revokes {
			w.after(w.spread(cfg.until/3), a.revoke)
		}
	}
	return w
}

// releasePlan is one of a release.
func releasePlan(stages ...Stage) Plan {
	return Plan{Target: Target{Release: release.Pin{Version: "2.0.0", Digest: badDigest}}, Strategy: Canary, Stages: stages}
}

func (w *world) after(d time.Duration, do func()) {
	w.order++
	heap.Push(&w.events, event{w.now.Add(d), w.order, do})
}

func (w *world) spread(d time.Duration) time.Duration {
	return time.Duration(w.rng.Int64N(int64(d) + 1))
}

// down are the agents that are really under way.
func (w *world) down() (n int) {
	for _, a := range w.agents {
		if a.alive && a.attempt != "" {
			n++
		}
	}
	return n
}

// most is how many may be down: also where all hang that may, one goes back, if the
// plan says so.
func (w *world) most() int {
	if !w.plan.PastSilent || w.plan.Instruction.Action != ActRevert {
		return w.cfg.limit
	}
	hang := 0
	for _, a := range w.agents {
		if a.alive && a.hangs && a.attempt != "" {
			hang++
		}
	}
	return max(w.cfg.limit, hang+1)
}

// poke has the controller decide soon.
func (w *world) poke() {
	if at := w.now.Add(w.cfg.pause); w.due.IsZero() || w.due.After(at) {
		w.due = at
	}
}

func (w *world) snapshot() Snapshot {
	s := Snapshot{Revision: w.seen}
	for _, m := range w.shown {
		s.Members = append(s.Members, m)
	}
	slices.SortFunc(s.Members, func(a, b *Member) int { return strings.Compare(a.ID, b.ID) })
	return s
}

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	var told strings.Builder
	for _, d := range w.writes[max(0, len(w.writes)-30):] {
		fmt.Fprintf(&told, "\n  %s: %s %+v", d.Event, d.Why, d.Figures)
	}
	w.t.Fatalf("seed %d, %v: %s\n%s, waits: %s%s", w.seed, w.now.Sub(w.plan.Created), fmt.Sprintf(format, args...), w.plan.State, w.books.Waits, told.String())
}

// decide decides until there is nothing more to write.
func (w *world) decide() {
	for {
		in := Input{Plan: w.plan, Books: w.books, Snapshot: w.snapshot(), Freeze: w.freeze, CheckResults: w.checks, Now: w.now}
		if w.rng.IntN(100) == 0 {
			w.watched = Departures{} // of a controller that was elected just now
		}
		w.watched.See(in.Snapshot.Members, w.now)
		w.watched.Tell(&in, w.now)
		out, err := Decide(in)
		if err != nil {
			w.fatalf("%v", err)
		}
		if w.rng.IntN(8) == 0 {
			w.leaderChange(in, out)
		}
		w.due = out.Wake
		if !out.Wake.IsZero() && !out.Wake.After(w.now) {
			w.fatalf("it is to be woken at %v, which has been", out.Wake)
		}
		w.books = out.Books
		for _, c := range out.Ask {
			w.checks[c.Name] = CheckResult{Verdict: w.answers(c), Detail: "as asked", At: w.now}
			w.poke()
		}
		if !out.Changed {
			return
		}
		w.counted(out)
		out.Plan.Seq++
		w.revision++
		w.plan = out.Plan
		w.writes = append(w.writes, out.Draft)
		if err := w.plan.Validate(); err != nil {
			w.fatalf("%v", err)
		}
		w.tell()
		if len(w.writes) > 10000 {
			w.fatalf("it does not come to an end")
		}
	}
}

// leaderChange has another controller read what is written and decide the same.
func (w *world) leaderChange(in Input, out Output) {
	read := in
	reread(w.t, in.Plan, &read.Plan)
	read.Books = Books{}
	reread(w.t, in.Books, &read.Books)
	again, err := Decide(read)
	if err != nil {
		w.fatalf("%v", err)
	}
	if a, b := encoded(w.t, out), encoded(w.t, again); a != b {
		w.fatalf("another leader decides otherwise:\n%s\n%s", a, b)
	}
}

func encoded(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func reread(t *testing.T, from, to any) {
	t.Helper()
	data, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(data, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// counted checks that whoever a write lets start has been counted by it.
func (w *world) counted(out Output) {
	before, err1 := NewAdmission(w.plan)
	after, err2 := NewAdmission(out.Plan)
	if err1 != nil || err2 != nil {
		w.fatalf("%v, %v", err1, err2)
	}
	same := w.plan.Request() == out.Plan.Request()
	for _, a := range w.agents {
		if !a.registered || !after.Admits(&a.Member) || same && before.Admits(&a.Member) {
			continue
		}
		if a.Report != nil && a.Report.Request == out.Plan.Request() && a.Report.State.Ended() {
			continue
		}
		if out.Plan.Instruction.Action == ActRevert && a.Version != "2.0.0" && a.attempt == "" {
			continue
		}
		_, tracked := out.Books.UnderWay[a.ID]
		_, former := out.Books.Former[a.ID]
		if !tracked && !former && w.shown[a.ID] != nil {
			w.fatalf("%s may start and is not counted: joined %d, cursor %+v", a.ID, a.Joined, out.Plan.Cursor)
		}
	}
}

// run goes on until done or cfg.until.
func (w *world) run(done func() bool) {
	end := w.now.Add(w.cfg.until)
	for !done() {
		next := end
		if len(w.events) > 0 {
			next = w.events[0].at
		}
		if !w.due.IsZero() && w.due.Before(next) {
			next = w.due
		}
		if !next.Before(end) {
			w.now = end
			return
		}
		w.now = next
		for len(w.events) > 0 && !w.events[0].at.After(w.now) {
			heap.Pop(&w.events).(event).do()
		}
		if n, most := w.down(), w.most(); w.cfg.limit > 0 && n > most {
			w.fatalf("%d agents are down, at most %d may be", n, most)
		}
		if !w.due.IsZero() && !w.due.After(w.now) {
			w.decide()
		}
	}
}

func (w *world) over() bool { return w.plan.State.Over() || w.plan.State == Halted }

// eachSeed runs one world a seed, on all cores.
func eachSeed(t *testing.T, n int, run func(t *testing.T, seed uint64)) {
	t.Helper()
	const workers = 4
	var next atomic.Uint64
	for i := range workers {
		t.Run(fmt.Sprint("worker ", i), func(t *testing.T) {
			t.Parallel()
			for seed := next.Add(1); seed <= uint64(n); seed = next.Add(1) {
				run(t, seed)
			}
		})
	}
}

func canaryStages(limit int) []Stage {
	return []Stage{
		{Name: "test", Selector: "env=test", BasisPoints: 5000, MaxUnavailable: Amount{Agents: limit}, Soak: 2},
		{Name: "production", Selector: "env=production", BasisPoints: 3000, MaxUnavailable: Amount{Agents: limit}, Soak: 2},
		{Name: "all", BasisPoints: 10000, MaxUnavailable: Amount{Agents: limit}},
	}
}

func TestGoodReleaseReachesAllThoughAgentsAreAwayAndJoin(t *testing.T) {
	eachSeed(t, *seeds, func(t *testing.T, seed uint64) {
		plan := releasePlan(canaryStages(6)...)
		w := newWorld(t, seed, plan, worldConfig{agents: 40, lag: 300 * time.Millisecond, partition: 0.2, joins: 6, limit: 6, until: 10 * time.Minute})
		w.run(func() bool { return false })
		if w.plan.State != Completed {
			w.fatalf("it did not complete")
		}
		for _, a := range w.agents {
			if a.registered && a.Version != "2.0.0" {
				w.fatalf("%s was left on %s: %+v, joined %d, %+v", a.ID, a.Version, a.Report, a.Joined, w.plan.Cursor)
			}
		}
	})
}

func TestAgentsWhoseLeaseIsRevokedAreNotDownUncounted(t *testing.T) {
	eachSeed(t, *seeds, func(t *testing.T, seed uint64) {
		plan := releasePlan(canaryStages(2)...)
		w := newWorld(t, seed, plan, worldConfig{agents: 40, bad: 0.1 * float64(seed%2), lag: 300 * time.Millisecond, revokes: 0.9, limit: 2, until: 3 * time.Minute})
		w.run(func() bool { return false })
		if w.plan.State != Completed && w.plan.State != Reverted {
			w.fatalf("it did not end")
		}
	})
}

func TestBadReleaseIsTakenBackFromAll(t *testing.T) {
	eachSeed(t, *seeds, func(t *testing.T, seed uint64) {
		plan := releasePlan(canaryStages(5)...)
		w := newWorld(t, seed, plan, worldConfig{
			agents: 40, bad: 0.3, kills: seed%3 == 0, lag: 300 * time.Millisecond, partition: 0.2, deaths: 0.02, joins: 4, limit: 5, until: 10 * time.Minute,
		})
		w.run(func() bool { return false })
		lost := slices.ContainsFunc(w.agents, func(a *simAgent) bool { return !a.registered })
		// Whether one that died on its way back is back an operator has to see.
		if w.plan.State != Reverted && (w.plan.State != Halted || !lost) {
			w.fatalf("it was not reverted")
		}
		for _, a := range w.agents {
			if a.registered && a.Version != "1.0.0" {
				w.fatalf("%s was left on the bad release: %+v, joined %d, %+v", a.ID, a.Report, a.Joined, w.plan.Cursor)
			}
		}
	})
}

func TestSilentAgentsNeverMakeRoomForOthers(t *testing.T) {
	eachSeed(t, *seeds, func(t *testing.T, seed uint64) {
		plan := releasePlan(canaryStages(4)...)
		plan.PastSilent = seed%2 == 0
		w := newWorld(t, seed, plan, worldConfig{agents: 30, hang: 0.15, lag: 200 * time.Millisecond, partition: 0.3, deaths: 0.1, joins: 3, limit: 4, until: 5 * time.Minute})
		w.run(func() bool { return false })
		if w.plan.State == Running || w.plan.State == Reverting {
			w.fatalf("it neither went on nor ended")
		}
		for _, a := range w.agents {
			reverts := w.plan.Instruction.Action == ActRevert
			if plan.PastSilent && reverts && a.registered && a.attempt == "" && a.Version != "1.0.0" {
				w.fatalf("%s was left on the bad release for those that hang: %+v, joined %d, %+v", a.ID, a.Report, a.Joined, w.plan.Cursor)
			}
		}
	})
}

// With -rollout.seeds=200 in each of a thousand fleets.
func TestOneBadCanaryInAHundredHaltsBeforeTheSecondStage(t *testing.T) {
	eachSeed(t, 5**seeds, func(t *testing.T, seed uint64) {
		plan := releasePlan(
			Stage{Name: "test", Selector: "env=test"},
			Stage{Name: "all"},
		)
		plan.OnFailure = Halt
		w := newWorld(t, seed, plan, worldConfig{agents: 110, rest: 11, pause: time.Second, until: 5 * time.Minute})
		var canaries []*simAgent
		for _, a := range w.agents {
			if a.Labels["env"] == "test" {
				canaries = append(canaries, a)
			}
		}
		if len(canaries) != 100 {
			t.Fatalf("%d canaries", len(canaries))
		}
		canaries[w.rng.IntN(100)].badly = true
		w.run(w.over)
		if w.plan.State != Halted || w.plan.Stage != 0 || w.books.Figures.Admitted != 100 {
			w.fatalf("it is %s in stage %d with %+v", w.plan.State, w.plan.Stage, w.books.Figures)
		}
	})
}
