package fleetsim_test

import (
	"context"
	"time"

	"github.com/perennial-go/perennial/examples/fleetsim"
	"github.com/perennial-go/perennial/examples/internal/sleep"
	"github.com/perennial-go/perennial/internal/etcdtest"
)

// strike has a fault happen when its time has come, and mends it again.
func (w *world) strike(ctx context.Context, f fault) {
	due := time.Now().Add(f.after)
	err := w.until(ctx, "a fault", func() (bool, error) {
		falls, _ := w.ledger.Falls()
		return falls >= f.falls || time.Now().After(due), nil
	})
	if err != nil {
		return
	}
	w.mu.Lock()
	w.struck = append(w.struck, f.kind)
	w.mu.Unlock()
	switch f.kind {
	case killOne:
		w.kill(ctx, f, w.agents[f.which%uint64(len(w.agents))])
	case killUnderWay:
		for _, a := range w.agents {
			if a.UnderWay() {
				w.kill(ctx, f, a)
				break
			}
		}
	case breakLease:
		_ = w.racks[f.which%racks].Break(ctx, w.client) // a lease that has ended already is as good
	case rackDelayed, rackFrozen, rackCut:
		w.disturb(ctx, f, w.ways[f.which%racks])
	case leaderKilled, leaderLeaves:
		w.depose(ctx, f)
	case leaderFrozen, leaderCut:
		w.disturb(ctx, f, w.leader().way)
	}
}

func (w *world) kill(ctx context.Context, f fault, a *fleetsim.Agent) {
	a.Kill(ctx, w.client)
	if sleep.For(ctx, f.lasts) == nil {
		_ = a.Start(ctx) // only ctx's end keeps it from starting
	}
}

// disturb does something to the network, and mends it.
func (w *world) disturb(ctx context.Context, f fault, way *etcdtest.Proxy) {
	defer way.Heal()
	switch f.kind {
	case rackDelayed:
		late := time.Duration(20+f.which%180) * time.Millisecond
		way.Delay(etcdtest.ToServer, late)
		way.Delay(etcdtest.ToClient, late)
	case rackFrozen, leaderFrozen:
		way.Freeze()
	default:
		way.Cut()
	}
	_ = sleep.For(ctx, f.lasts) // healed in any case
}

// leader is the controller that is elected, as far as can be seen.
func (w *world) leader() *candidate {
	if l := w.view().Leader; l != nil {
		for _, c := range w.leaders {
			if c.id == l.ID {
				return c
			}
		}
	}
	return w.leaders[0]
}

// depose ends the leader, which comes back later. One that is killed cannot
// resign: its network is cut first.
func (w *world) depose(ctx context.Context, f fault) {
	w.deposing.Lock()
	defer w.deposing.Unlock()
	c := w.leader()
	if f.kind == leaderKilled {
		c.way.Cut()
	}
	c.end()
	c.way.Heal()
	if sleep.For(ctx, f.lasts) == nil {
		_ = w.elect(ctx, c) // only ctx's end keeps it from standing
	}
}
