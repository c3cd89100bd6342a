package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/examples/fleetsim"
	"github.com/perennial-go/perennial/examples/internal/sleep"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

const (
	rolloutStartTarget     = 2.0   // × raw watch, p99
	rolloutMemoryTarget    = 200.0 // MiB
	rolloutProcessorTarget = 20.0  // % of a core
	rolloutRoot            = "/bench/rollout/"
	rolloutFleet           = "bench"
	rolloutTTL             = 60 * time.Second
	rolloutBeat            = 20 * time.Second
	// roundSpread is over how long agents spread what they report, for each of those
	// that start together, as rollout.Follower.ReportWithin has real ones do of their
	// starts: all of ten thousand at once here, and in one second one etcd does not
	// take so many reports. wholeSpread is in the whole rollout, for each agent.
	roundSpread = time.Millisecond
	wholeSpread = 500 * time.Microsecond
	// rolloutProbation is short, so that the controller has as much to do as it
	// ever will.
	rolloutProbation      = 2 * time.Second
	rolloutQuickProbation = 100 * time.Millisecond
)

// measureRollout has a fleet of simulated agents follow a mark, in turns with raw
// watchers of as large a value, and then a whole rollout by a controller in a
// process of its own.
func measureRollout(ctx context.Context, b *bench) (_ figure, err error) {
	if statFields("/proc/self/stat") == nil {
		return figure{Skipped: "memory and processor time are read from /proc, which is not there"}, nil
	}
	data, err := b.path("etcd-rollout")
	if err != nil {
		return figure{}, err
	}
	etcd, err := b.launchEtcd(ctx, data, "127.0.0.1:0")
	if err != nil {
		return figure{}, err
	}
	// Ten thousand agents in one heap are of this measurement, not of any agent.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	n := b.fleet()
	m := &marks{n: n, ours: newCrowd(rolloutRoot+"plan/"+rolloutFleet, "agents"), raw: newCrowd("/bench/raw", "raw watch"), release: benchPin(0)}
	if m.probation = rolloutProbation; b.quick {
		m.probation = rolloutQuickProbation
	}
	m.ours.p50.what, m.ours.p99.what = "agents: the mark's move until half have started", "agents: the mark's move until 99 % have started"
	run, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		m.running.Wait()
		err = errors.Join(err, closeAll(m.clients), etcd.stop())
	}()
	b.say("rollout: %d agents and as many raw watchers", n)
	if err := m.build(run, etcd.url); err != nil {
		return figure{}, err
	}
	for i := range b.times(12, 2) {
		if err := m.round(ctx, i); err != nil {
			return figure{}, err
		}
	}
	whole, err := m.whole(ctx, b, etcd.url)
	if err != nil {
		return figure{}, err
	}
	ratio := m.ours.p99.median() / m.raw.p99.median()
	return figure{
		Measures: measures(m.ours.p50, m.raw.p50, m.ours.p99, m.raw.p99, whole.memory),
		Verdicts: []verdict{
			within("agents / raw watch, p99, medians of the rounds", "×", ratio, rolloutStartTarget),
			within("most writes of a step", "", float64(whole.writes), 1),
			within("most agents down at once, beyond those that may be", "", float64(whole.beyond), 0),
			within("controller, most resident memory", "MiB", whole.memory.quantile(1), rolloutMemoryTarget),
			within("controller, processor time while the rollout goes on", "% of a core", whole.processor, rolloutProcessorTarget),
			{What: "agents / raw watch, p50, medians of the rounds", Unit: "×", Value: m.ours.p50.median() / m.raw.p50.median()},
			{What: "the whole rollout by the default stages", Unit: "s", Value: whole.took.Seconds()},
		},
		Notes: []string{
			fmt.Sprintf("%d agents, %d to a connection and a lease, all in this process, beside as many raw watchers; all that the agents are to run is there already, and what they report they spread over %v, in the whole rollout over %v", n, perConnection, time.Duration(n)*roundSpread, time.Duration(n)*wholeSpread),
			fmt.Sprintf("the rollout took %d steps, each one revision of etcd with the plan, the books and the record; the books were written %d times alone; %d agents at most were down at once, %d might be", whole.steps, whole.alone, whole.most, whole.budget),
		},
	}, nil
}

// marks is a fleet that follows marks.
type marks struct {
	n         int
	ours, raw *crowd
	clients   []*clientv3.Client
	writer    *clientv3.Client
	agents    []*fleetsim.Agent
	running   sync.WaitGroup
	ledger    *fleetsim.Ledger
	release   release.Pin // that all run
	probation time.Duration
	inWhole   atomic.Bool
}

func (m *marks) spread() time.Duration {
	if m.inWhole.Load() {
		return time.Duration(m.n) * wholeSpread
	}
	return time.Duration(m.n) * roundSpread
}

func benchPin(i int) release.Pin {
	return release.Pin{Version: fmt.Sprintf("1.%d.0", i), Digest: fmt.Sprintf("sha256:%064x", i)}
}

// build starts agents and raw watchers, and waits until all are there.
func (m *marks) build(ctx context.Context, url string) error {
	var err error
	connections := (m.n + perConnection - 1) / perConnection
	if m.clients, err = dialMany(url, 2*connections+1); err != nil {
		return err
	}
	m.writer = m.clients[2*connections]
	m.ledger = fleetsim.NewLedger(m.n, time.Hour)
	racks := make([]*fleetsim.Rack, connections)
	for i := range racks {
		if racks[i], err = fleetsim.NewRack(m.clients[i], rolloutRoot, rolloutTTL, rolloutBeat); err != nil {
			return err
		}
		m.running.Go(func() { _ = racks[i].Run(ctx) }) // ends with ctx
		if err := sleep.For(ctx, startEvery); err != nil {
			return err
		}
	}
	for i := range m.n {
		a := fleetsim.NewAgent(fleetsim.AgentConfig{
			ID: fmt.Sprintf("agent-%05d", i), Labels: map[string]string{"env": environment(i), "region": "eu"}, Fleet: rolloutFleet,
			Rack: racks[i%connections], Ledger: m.ledger, Release: m.release, Staged: true,
			Probation: m.probation, Spread: m.spread,
			OnBegin: func(_ string, o rollout.Order) { m.ours.seen(i, o.Rollout) },
		})
		m.agents = append(m.agents, a)
		if err := a.Start(ctx); err != nil {
			return err
		}
		m.watch(ctx, m.clients[connections+i%connections], i)
	}
	return until(ctx, fmt.Sprintf("%d agents are registered", m.n), 4*startLimit, func() bool {
		r, err := m.writer.Get(ctx, rolloutRoot+"registry/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && r.Count == int64(m.n)
	})
}

// environment of the i-th agent: one in ten is there for tests.
func environment(i int) string {
	if i%10 == 0 {
		return "test"
	}
	return "production"
}

// watch follows the raw key, whose value begins with what is awaited.
func (m *marks) watch(ctx context.Context, c *clientv3.Client, i int) {
	events := c.Watch(ctx, m.raw.key)
	m.running.Go(func() {
		for r := range events {
			for _, e := range r.Events {
				id, _, _ := strings.Cut(string(e.Kv.Value), " ")
				m.raw.seen(i, id)
			}
		}
	})
}

// round moves a mark that lets everybody start, and writes a value as large that
// is only watched.
func (m *marks) round(ctx context.Context, i int) error {
	p := m.plan(fmt.Sprintf("round-%d", i), benchPin(i+1))
	now, err := m.writer.Get(ctx, rolloutRoot+"registry/", clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	p.Stages = []rollout.Stage{{Name: "all", BasisPoints: 10000}}
	p = p.WithDefaults()
	p.Schema, p.State, p.Seq, p.Created, p.Since = rollout.Schema, rollout.Running, 1, time.Now(), time.Now()
	p.Instruction = rollout.Instruction{Number: 1, Action: rollout.ActSwitch}
	p.Cursor = rollout.Cursor{AsOf: now.Header.Revision, Marks: []rollout.Mark{{Open: false}}, Steps: []rollout.Step{{At: time.Now(), Agents: m.n}}}
	value, err := text(p)
	if err == nil {
		_, err = m.writer.Put(ctx, m.ours.key, value)
	}
	if err != nil {
		return err
	}
	if err := sleep.For(ctx, time.Second); err != nil { // until all have heard of it
		return err
	}
	p.Cursor.Marks[0] = rollout.Mark{Open: true, Rank: rollout.LastRank}
	p.Seq++
	if value, err = text(p); err != nil {
		return err
	}
	collect()
	ours, err := m.ours.writeAs(ctx, m.writer, m.n, value, p.ID)
	if err != nil {
		return err
	}
	m.ours.add(ours)
	m.release = p.Target.Release
	if err := m.settle(ctx); err != nil {
		return err
	}
	id := fmt.Sprintf("raw-%d", i)
	collect()
	raw, err := m.raw.writeAs(ctx, m.writer, m.n, id+" "+value, id)
	if err != nil {
		return err
	}
	m.raw.add(raw)
	return sleep.For(ctx, betweenWrites)
}

// collect has neither side pay for what the other has left behind: the heap is that
// of all agents and watchers together.
func collect() { runtime.GC() }

// text is the value of a plan's key.
func text(p rollout.Plan) (string, error) {
	data, err := json.Marshal(p)
	return string(data), err
}

func (m *marks) plan(id string, to release.Pin) rollout.Plan {
	return rollout.Plan{
		Fleet: rolloutFleet, ID: id, By: "bench", Strategy: rollout.Canary,
		Target: rollout.Target{Release: to, Program: "bench"}, Previous: rollout.Target{Release: m.release, Program: "bench"},
		Deadline: 120,
	}
}

// settle waits until all run the release and have said so.
func (m *marks) settle(ctx context.Context) error {
	err := until(ctx, "all agents have changed", 4*startLimit, func() bool {
		for _, a := range m.agents {
			if a.Runs() != m.release || a.UnderWay() || !a.Told() {
				return false
			}
		}
		return true
	})
	return errors.Join(err, sleep.For(ctx, time.Second))
}

// wholeRollout is what a rollout by a controller took.
type wholeRollout struct {
	memory       *series
	processor    float64
	took         time.Duration
	steps, alone int
	writes       int
	most, budget int
	beyond       int
}

// whole brings a release to the fleet by the default stages, at most a tenth
// of it down at once.
func (m *marks) whole(ctx context.Context, b *bench, url string) (*wholeRollout, error) {
	binary, err := b.build(ctx, "bench/controlonly", "")
	if err != nil {
		return nil, err
	}
	first, err := m.writer.Delete(ctx, m.ours.key) // which no controller knows of
	if err != nil {
		return nil, err
	}
	operator, err := rollout.NewOperator(rollout.OperatorConfig{Client: m.writer, Root: rolloutRoot, Fleet: rolloutFleet})
	if err != nil {
		return nil, err
	}
	controller, err := b.launch(ctx, "controls ", binary, "--etcd", url, "--root", rolloutRoot, "--fleet", rolloutFleet)
	if err != nil {
		return nil, err
	}
	m.inWhole.Store(true)
	w := &wholeRollout{budget: max(m.n/10, 1)}
	m.ledger.Restart(w.budget)
	p := m.plan("whole", benchPin(1000))
	for _, s := range rollout.DefaultCanary() {
		s.MaxUnavailable = rollout.Amount{Agents: w.budget}
		s.Soak = 1
		p.Stages = append(p.Stages, s)
	}
	u := newUsage("controller", controller)
	w.memory = u.resident
	if err := u.begin(); err != nil {
		return nil, err
	}
	began := time.Now()
	if _, err := operator.Start(ctx, p, rollout.StartOptions{}); err != nil {
		return nil, err
	}
	for over := false; !over; {
		if err := errors.Join(sleep.For(ctx, time.Second), u.sample()); err != nil {
			return nil, err
		}
		v, err := operator.Status(ctx)
		switch {
		case time.Since(began) > 20*time.Minute:
			return nil, fmt.Errorf("want the rollout to complete within 20 minutes, found %+v: %w", v.Plan, err)
		case err != nil: // an etcd that is busy answers the next one
		case v.Plan.State == rollout.Completed:
			over = true
		case v.Plan.State != rollout.Running:
			return nil, fmt.Errorf("want the rollout to complete, found it %s: %s", v.Plan.State, v.Plan.Why)
		}
	}
	w.took, w.processor = time.Since(began), u.processor()
	m.release = p.Target.Release
	history, err := fleetsim.ReadChronicle(ctx, m.writer, rolloutRoot, rolloutFleet, first.Header.Revision+1)
	if err != nil {
		return nil, err
	}
	for _, s := range history.Steps {
		w.writes = max(w.writes, s.Records)
	}
	w.steps, w.alone = len(history.Steps), history.Alone
	_, w.most = m.ledger.Falls()
	w.beyond = len(m.ledger.Breaches())
	return w, errors.Join(history.Check("whole"), controller.stop())
}
