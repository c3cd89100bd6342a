package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

// The longer run of the random test, and its seed.
const (
	envSeconds = "PERENNIAL_DISPATCH_SECONDS"
	envSeed    = "PERENNIAL_DISPATCH_SEED"
)

// chaos is a fleet to which things happen.
type chaos struct {
	*rig
	mu     sync.Mutex
	random *rand.Rand
}

func newChaos(r *rig) *chaos {
	seed := uint64(time.Now().UnixNano())
	if given, err := strconv.ParseUint(os.Getenv(envSeed), 10, 64); err == nil {
		seed = given
	}
	r.Logf("%s=%d", envSeed, seed)
	return &chaos{rig: r, random: rand.New(rand.NewPCG(seed, 0))}
}

func (c *chaos) chance(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.random.IntN(n)
}

// lasts is how long to go on.
func lasts(short time.Duration) time.Duration {
	if n, err := strconv.Atoi(os.Getenv(envSeconds)); err == nil {
		return time.Duration(n) * time.Second
	}
	return short
}

// plugins are what an agent of the chaos can do.
func (c *chaos) plugins() map[string]work {
	return map[string]work{
		"do": nothing,
		"count": count(9, func(ctx context.Context, _ plugin.Task, _ int) error {
			_ = backoff.Sleep(ctx, time.Duration(c.chance(20))*time.Millisecond)
			switch c.chance(40) {
			case 0:
				return errors.New("by chance")
			case 1:
				return fmt.Errorf("%w: by chance", plugin.ErrInterrupted)
			}
			return ctx.Err()
		}),
		"never": func(context.Context, plugin.Task, func(plugin.Result) error) error {
			return fmt.Errorf("%w: never", plugin.ErrPermanent)
		},
		"endless": endless,
	}
}

// site is an agent, or a dispatcher, that is reached through a proxy.
type site struct {
	proxy  *etcdtest.Proxy
	client *clientv3.Client
	stop   func()
}

// agentAt starts an agent with a lease of its own; the returned function stops
// its worker, and what else there is of it.
func (c *chaos) agentAt(s *site, id, instance string) {
	session, err := etcdkv.NewSession(etcdkv.SessionConfig{Client: s.client, TTL: time.Second})
	if err != nil {
		c.Fatal(err)
	}
	w, err := dispatch.NewWorker(dispatch.WorkerConfig{
		Client: s.client, AgentID: id, Instance: instance, Plugins: newHost(c.plugins()), Concurrency: 3, DrainTimeout: -1,
		Lease: func() clientv3.LeaseID { return clientv3.LeaseID(session.Lease()) }, Logger: c.logger,
	})
	if err != nil {
		c.Fatal(err)
	}
	endSession, endWorker := c.background(session.Run), c.background(w.Run)
	s.stop = func() {
		endWorker()
		endSession()
	}
}

// submit submits tasks at random and says how each may end.
func (c *chaos) submitSome(ctx context.Context, ends map[string]func(dispatch.State) bool, counted map[string]bool) {
	policies := []dispatch.Policy{dispatch.Any, dispatch.RoundRobin, dispatch.LeastLoaded, dispatch.Rendezvous, dispatch.All}
	t := dispatch.Task{Capability: "do", Policy: policies[c.chance(len(policies))], Priority: c.chance(5), Retry: dispatch.Retry{Max: 50, MinBackoff: time.Millisecond, MaxBackoff: 50 * time.Millisecond}}
	ok := succeeded
	cancelled := false
	switch c.chance(10) {
	case 0:
		t.Capability, ok = "never", func(s dispatch.State) bool { return s == dispatch.Dead }
	case 1:
		t.Capability, cancelled, ok = "endless", true, func(s dispatch.State) bool { return s == dispatch.Cancelled }
	case 2:
		t.Capability, t.Deadline = "endless", time.Now().Add(time.Duration(c.chance(3000))*time.Millisecond)
		ok = func(s dispatch.State) bool { return s == dispatch.Expired }
	case 3, 4, 5, 6:
		t.Capability = "count"
	}
	if t.Policy == dispatch.Rendezvous {
		t.Key = fmt.Sprint(c.chance(5))
	}
	if c.chance(3) == 0 {
		t.IdempotencyKey = fmt.Sprint(len(ends))
	}
	s, err := c.queue.Submit(ctx, t)
	switch {
	case errors.Is(err, dispatch.ErrNoAgent):
		return
	case err != nil:
		c.Logf("submit: %v", err) // etcd is away; nobody was told that it is there
		return
	}
	ends[s.ID] = ok
	if t.Capability == "count" && t.Policy != dispatch.All {
		counted[s.ID] = true
	}
	if cancelled {
		waittest.Nil(c.T, "it is cancelled", func() error {
			err := c.queue.Cancel(context.Background(), s.ID, "op")
			if errors.Is(err, dispatch.ErrFinished) {
				return nil
			}
			return err
		})
	}
}

// TestBooksBalanceWhateverHappens has agents and dispatchers come, go and be cut
// off, and etcd be killed, while tasks are submitted and cancelled, and then
// reads the whole history. PERENNIAL_DISPATCH_SECONDS and
// PERENNIAL_DISPATCH_SEED set how long, and what is drawn.
func TestBooksBalanceWhateverHappens(t *testing.T) {
	c := newChaos(newRig(t))
	ends, counted := map[string]func(dispatch.State) bool{}, map[string]bool{}
	var agents, dispatchers []*site
	number := 0
	begin := func(s *site, i int) {
		number++
		c.agentAt(s, fmt.Sprint("agent-", i), fmt.Sprint("instance-", number))
	}
	for i := range 4 {
		proxy := c.server.Proxy(t)
		s := &site{proxy: proxy, client: proxy.Client(t)}
		begin(s, i)
		agents = append(agents, s)
	}
	for i := range 2 {
		proxy := c.server.Proxy(t)
		s := &site{proxy: proxy, client: proxy.Client(t)}
		s.stop = c.dispatcher(fmt.Sprint("dispatcher-", i), func(cfg *dispatch.DispatcherConfig) { cfg.Client = s.client })
		dispatchers = append(dispatchers, s)
	}
	everybody := append(append([]*site{}, agents...), dispatchers...)
	restarts := 0
	begun := time.Now()
	going := func(limit time.Duration) bool { return time.Since(begun) < limit }
	// A busy machine takes its time for as many tasks as prove something.
	for going(lasts(4*time.Second)) || len(ends) < 40 && going(waittest.Patience) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		for range 1 + c.chance(4) {
			c.submitSome(ctx, ends, counted)
		}
		cancel()
		site := everybody[c.chance(len(everybody))]
		switch c.chance(12) {
		case 0:
			site.proxy.Cut()
		case 1:
			site.proxy.Freeze()
		case 2, 3, 4:
			site.proxy.Heal()
		case 5:
			i := c.chance(len(agents))
			if c.chance(4) != 0 {
				agents[i].proxy.Heal() // or it takes its time to give up
			}
			agents[i].stop()
			begin(agents[i], i)
		case 6:
			if restarts++; restarts%4 == 1 {
				c.server.Restart()
			}
		}
	}
	for _, s := range everybody {
		s.proxy.Heal()
	}
	c.finished()
	h := c.judge(ends)
	t.Logf("%d tasks, %d acknowledged, %d withdrawn", len(h.Ends), h.Acknowledged, h.Withdrawn)
	for id := range counted {
		c.counted(id, 9)
	}
	if len(ends) < 20 || h.Acknowledged < 20 {
		t.Errorf("%d tasks: that proves little", len(ends))
	}
	for i := range agents {
		c.clean(fmt.Sprint("agent-", i))
	}
}
