package fleetsim_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/examples/fleetsim"
	"github.com/perennial-go/perennial/examples/internal/sleep"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

const (
	fleetName = "sim"
	program   = "simulated"
	// patience is how long a fleet may take; it is reached only where something
	// is broken, or the machine is very busy.
	patience = 5 * time.Minute
)

func older() release.Pin { return pin("1.0.0", "a") }
func newer() release.Pin { return pin("1.1.0", "b") }

func pin(version, digit string) release.Pin {
	return release.Pin{Version: version, Digest: "sha256:" + strings.Repeat(digit, 64)}
}

// world is one scenario as it runs.
type world struct {
	scenario
	machine  *machine
	began    time.Time
	root     string
	client   *clientv3.Client // which no fault touches
	operator *rollout.Operator
	ledger   *fleetsim.Ledger
	racks    []*fleetsim.Rack
	ways     []*etcdtest.Proxy // of the racks
	agents   []*fleetsim.Agent
	leaders  []*candidate
	running  sync.WaitGroup
	clients  []*clientv3.Client
	doomed   chan doom

	deposing sync.Mutex // one at a time

	mu      sync.Mutex
	turns   map[string]int // in which the agents have begun
	strays  []string       // that are no canaries and began all the same
	struck  []faultKind    // the faults that there were
	excuses []string       // why the machine is to blame
	last    rollout.View
	changed chan struct{}
}

// doom is an agent that dies by its fate.
type doom struct {
	agent *fleetsim.Agent
	fate  fleetsim.Fate
}

// candidate is a controller.
type candidate struct {
	id  string
	way *etcdtest.Proxy
	end context.CancelFunc // of its present life; nil = dead
}

// run plays a scenario, and returns how it ended and what is not as it should be.
func (s scenario) run(t *testing.T, server *etcdtest.Server, dir string, m *machine) (end ending, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	w := &world{
		scenario: s, machine: m, began: time.Now(), root: fmt.Sprintf("/sim/%d/", s.seed), ledger: fleetsim.NewLedger(s.budget, deadline),
		doomed: make(chan doom, s.agents), turns: map[string]int{}, changed: make(chan struct{}, 1),
	}
	if s.strategy == rollout.BlueGreen {
		w.ledger = fleetsim.NewLedger(s.agents, deadline) // it switches all at once
	}
	defer func() {
		cancel()
		w.running.Wait()
		end = w.ended()
		for _, c := range w.clients {
			err = errors.Join(err, c.Close())
		}
	}()
	if err := w.build(ctx, t, server, dir); err != nil {
		return end, err
	}
	first, err := w.client.Get(ctx, w.root)
	if err != nil {
		return end, err
	}
	if _, err := w.operator.Start(ctx, w.plan(), rollout.StartOptions{}); err != nil {
		return end, err
	}
	w.running.Go(func() { w.bury(ctx) })
	for _, f := range w.faults {
		w.running.Go(func() { w.strike(ctx, f) })
	}
	if err := w.steer(ctx); err != nil {
		return end, err
	}
	err = w.calm(ctx)
	return end, errors.Join(err, w.judge(ctx, first.Header.Revision+1))
}

// ending is how a fleet's rollout ended.
type ending struct {
	state   rollout.State
	struck  []faultKind
	excuses []string
}

func (w *world) ended() ending {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := ending{struck: w.struck, excuses: w.excuses}
	if w.last.Plan != nil {
		e.state = w.last.Plan.State
	}
	return e
}

func (w *world) dial(url string) (*clientv3.Client, error) {
	c, err := etcdkv.Dial(etcdkv.ClientConfig{Endpoints: []string{url}})
	if err == nil {
		w.clients = append(w.clients, c)
	}
	return c, err
}

// build starts the fleet and waits until it is registered.
func (w *world) build(ctx context.Context, t *testing.T, server *etcdtest.Server, dir string) (err error) {
	if w.client, err = w.dial(server.URL()); err != nil {
		return err
	}
	if w.operator, err = rollout.NewOperator(rollout.OperatorConfig{Client: w.client, Root: w.root, Fleet: fleetName}); err != nil {
		return err
	}
	for range racks {
		way := server.Proxy(t)
		c, err := w.dial(way.URL())
		if err != nil {
			return err
		}
		rack, err := fleetsim.NewRack(c, w.root, ttl, beat)
		if err != nil {
			return err
		}
		w.racks, w.ways = append(w.racks, rack), append(w.ways, way)
		w.running.Go(func() { _ = rack.Run(ctx) }) // ends with ctx
	}
	for i := range w.scenario.agents {
		a := fleetsim.NewAgent(fleetsim.AgentConfig{
			ID: fmt.Sprintf("agent-%03d", i), Labels: w.labels(i), Fleet: fleetName, Rack: w.racks[i%racks], Ledger: w.ledger,
			Dir: dir, Release: older(), Fate: w.fate, Download: download, Probation: probation,
			OnBegin: w.begun, OnDoom: func(a *fleetsim.Agent, f fleetsim.Fate) { w.doomed <- doom{a, f} },
		})
		w.agents = append(w.agents, a)
		if err := a.Start(ctx); err != nil {
			return err
		}
	}
	for i := range 2 {
		w.leaders = append(w.leaders, &candidate{id: fmt.Sprintf("controller-%d", i), way: server.Proxy(t)})
		if err := w.elect(ctx, w.leaders[i]); err != nil {
			return err
		}
	}
	w.running.Go(func() { _ = w.operator.Watch(ctx, w.seen) }) // ends with ctx
	return w.until(ctx, "the agents are registered", func() (bool, error) {
		r, err := w.client.Get(ctx, w.root+"registry/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && r.Count == int64(w.scenario.agents), err
	})
}

// elect begins a life of a controller.
func (w *world) elect(ctx context.Context, c *candidate) error {
	directory, err := agent.OpenDirectory(agent.EtcdConfig{Endpoints: []string{c.way.URL()}, Root: w.root})
	if err != nil {
		return err
	}
	controller, err := directory.RolloutController(rollout.ControllerConfig{Fleet: fleetName, ID: c.id, TTL: leaderTTL})
	if err != nil {
		return errors.Join(err, directory.Close())
	}
	life, end := context.WithCancel(ctx)
	ended := make(chan struct{})
	w.running.Go(func() {
		defer close(ended)
		_ = controller.Run(life) // ends with its life
		_ = directory.Close()
	})
	c.end = func() { end(); <-ended }
	return nil
}

// fate tells what becomes of an agent, by the turn in which it began.
func (w *world) fate(id string, _ rollout.Order) fleetsim.Fate {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isBad(w.turns[id]) {
		return w.bad
	}
	return fleetsim.Works
}

func (w *world) begun(id string, o rollout.Order) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if o.Action != rollout.ActSwitch {
		return
	}
	if w.turns[id] == 0 {
		w.turns[id] = len(w.turns) + 1
	}
	var number int
	if _, err := fmt.Sscanf(id, "agent-%d", &number); err == nil && number >= w.canaries {
		w.strays = append(w.strays, id)
	}
}

// bury has agents die by their fate, and come back.
func (w *world) bury(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-w.doomed:
			w.running.Go(func() {
				d.agent.Kill(ctx, w.client)
				if d.fate == fleetsim.FallsBack {
					d.agent.FallBack()
				}
				if sleep.For(ctx, ttl/4) == nil {
					_ = d.agent.Start(ctx) // only ctx's end keeps it from starting
				}
			})
		}
	}
}

func (w *world) seen(v rollout.View) {
	w.mu.Lock()
	w.last = v
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *world) view() rollout.View {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// until waits for ok.
func (w *world) until(ctx context.Context, what string, ok func() (bool, error)) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		is, err := ok()
		if is {
			return nil
		}
		select {
		case <-ctx.Done():
			v := w.view()
			state := "no plan"
			if v.Plan != nil {
				state = fmt.Sprintf("the plan is %s (%s), stage %d, instruction %d", v.Plan.State, v.Plan.Why, v.Plan.Stage, v.Plan.Instruction.Number)
			}
			if v.Books != nil {
				state += fmt.Sprintf(", cursor %+v, figures %+v, under way %v, lost %v", v.Plan.Cursor, v.Books.Figures, v.Books.UnderWay, v.Books.Lost)
			}
			for _, a := range w.agents {
				if a.UnderWay() || v.Books != nil && v.Books.UnderWay[a.ID()] != (rollout.Entrant{}) {
					state += "\n" + rollout.RankOf(v.Plan.ID, a.ID()).String() + " " + a.String()
				}
			}
			return fmt.Errorf("not in time: %s (%w); %s", what, errors.Join(ctx.Err(), err), state)
		case <-tick.C:
		}
	}
}
