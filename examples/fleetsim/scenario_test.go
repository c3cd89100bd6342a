package fleetsim_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/perennial-go/perennial/examples/fleetsim"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// Times of a simulated fleet. The lease of a rack is what makes a run as long as
// it is, and what a busy machine must not outlast.
const (
	ttl       = 2 * time.Second
	beat      = ttl / 4
	leaderTTL = time.Second
	deadline  = 5 * time.Second
	download  = 10 * time.Millisecond
	probation = 20 * time.Millisecond
	soak      = 30 * time.Millisecond
)

const racks = 3

// scenario is what a seed makes: it depends on nothing else.
type scenario struct {
	seed     uint64
	strategy rollout.Strategy
	agents   int
	canaries int // of the first stage
	budget   int
	// bad is the fate of an agent that the release is bad for; Works = it is good.
	// badTurn is which of those that start meets it, the first being 1, and every
	// badEvery-th after it.
	bad               fleetsim.Fate
	badTurn, badEvery int
	faults            []fault
}

// fault is something that happens once that many agents have begun, or in time.
type fault struct {
	kind  faultKind
	falls int
	after time.Duration
	lasts time.Duration
	which uint64
}

type faultKind string

const (
	killOne      faultKind = "an agent is killed"
	killUnderWay faultKind = "an agent is killed while it changes"
	breakLease   faultKind = "a rack's lease is lost"
	rackDelayed  faultKind = "a rack's messages are late"
	rackFrozen   faultKind = "a rack's messages are held up"
	rackCut      faultKind = "a rack is cut off"
	leaderKilled faultKind = "the leader is killed"
	leaderLeaves faultKind = "the leader leaves"
	leaderFrozen faultKind = "the leader's messages are held up"
	leaderCut    faultKind = "the leader is cut off"
)

func faultKinds() []faultKind {
	return []faultKind{killOne, killUnderWay, breakLease, rackDelayed, rackFrozen, rackCut, leaderKilled, leaderLeaves, leaderFrozen, leaderCut}
}

func fates() []fleetsim.Fate {
	return []fleetsim.Fate{fleetsim.RollsBack, fleetsim.Dies, fleetsim.Alerts, fleetsim.FallsBack}
}

func strategies() []rollout.Strategy {
	return []rollout.Strategy{rollout.Canary, rollout.Rolling, rollout.BlueGreen}
}

// newScenario makes that of a seed. One in twenty has a hundred canaries of which a
// single one fails: the one percent that has to be enough.
func newScenario(seed uint64) scenario {
	dice := rand.New(rand.NewPCG(seed, 8)) //nolint:gosec // it is to be repeatable
	s := scenario{seed: seed, strategy: rollout.Canary, agents: 8 + dice.IntN(9), budget: 1 + dice.IntN(5)}
	s.canaries = 2 + dice.IntN(s.agents/3)
	switch {
	case seed%20 == 0:
		s.agents, s.canaries, s.budget = 104, 100, 25
		s.bad, s.badTurn, s.badEvery = fleetsim.RollsBack, 1+dice.IntN(100), 1000
	case dice.IntN(2) == 0:
		s.bad, s.badTurn, s.badEvery = fates()[dice.IntN(len(fates()))], 1+dice.IntN(s.canaries), 1+dice.IntN(4)
		if dice.IntN(3) == 0 {
			s.strategy = rollout.Rolling
		}
	default:
		s.strategy = strategies()[dice.IntN(len(strategies()))]
	}
	for range dice.IntN(4) {
		f := fault{
			kind:  faultKinds()[dice.IntN(len(faultKinds()))],
			falls: 1 + dice.IntN(s.agents),
			after: time.Duration(100+dice.IntN(1500)) * time.Millisecond,
			lasts: time.Duration(50+dice.IntN(3000)) * time.Millisecond,
			which: dice.Uint64(),
		}
		if seed%20 != 0 || f.tells() {
			s.faults = append(s.faults, f)
		}
	}
	return s
}

// tells is false of a fault that can keep an agent from telling how it fared.
func (f fault) tells() bool {
	return slices.Contains([]faultKind{rackDelayed, leaderKilled, leaderLeaves, leaderFrozen, leaderCut}, f.kind)
}

// mustStop reports whether no agent but canaries may ever begin: one of the
// canaries fails, and nothing keeps it from saying so.
func (s scenario) mustStop() bool {
	if s.strategy != rollout.Canary || s.bad != fleetsim.RollsBack {
		return false
	}
	return !slices.ContainsFunc(s.faults, func(f fault) bool { return !f.tells() })
}

// mustComplete reports whether nothing stands in the way.
func (s scenario) mustComplete() bool {
	return s.bad == fleetsim.Works && !slices.ContainsFunc(s.faults, func(f fault) bool { return !f.tells() })
}

// isBad reports whether the release is bad for the agent that begins as the
// turn-th.
func (s scenario) isBad(turn int) bool {
	return s.bad != fleetsim.Works && turn >= s.badTurn && (turn-s.badTurn)%s.badEvery == 0
}

func (s scenario) String() string {
	var faults []string
	for _, f := range s.faults {
		faults = append(faults, fmt.Sprintf("%s (for %v, once %d have begun)", f.kind, f.lasts, f.falls))
	}
	good := "a good release"
	if s.bad != fleetsim.Works {
		good = fmt.Sprintf("a release that %s at number %d and each %d. after", s.bad, s.badTurn, s.badEvery)
	}
	return fmt.Sprintf("seed %d: %s of %d agents, %d of them canaries, %d down at most, %s; %s",
		s.seed, s.strategy, s.agents, s.canaries, s.budget, good, strings.Join(faults, ", "))
}

// labels of the i-th agent.
func (s scenario) labels(i int) map[string]string {
	if i < s.canaries {
		return map[string]string{"env": "test"}
	}
	return map[string]string{"env": "production"}
}

// plan is the rollout of a scenario.
func (s scenario) plan() rollout.Plan {
	budget := rollout.Amount{Agents: s.budget}
	stage := func(name, selector string, points int) rollout.Stage {
		return rollout.Stage{Name: name, Selector: selector, BasisPoints: points, MaxUnavailable: budget, Soak: rollout.Seconds(soak.Seconds())}
	}
	p := rollout.Plan{
		Fleet: fleetName, ID: fmt.Sprintf("sim-%d", s.seed), By: "sim", Strategy: s.strategy,
		Target: rollout.Target{Release: newer(), Program: program}, Previous: rollout.Target{Release: older(), Program: program},
		Deadline: rollout.Seconds(deadline.Seconds()),
	}
	switch s.strategy {
	case rollout.Canary:
		p.Stages = []rollout.Stage{stage("test", "env=test", 10000), stage("production", "env=production", 3000), stage("all", "", 10000)}
	case rollout.Rolling:
		p.Stages = []rollout.Stage{stage("all", "", 10000)}
	case rollout.BlueGreen:
		p.Stages = rollout.DefaultBlueGreen(rollout.Seconds(soak.Seconds()), false)
		p.Stages[0].MaxUnavailable = budget
	}
	return p
}
