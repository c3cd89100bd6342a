package agent

import (
	"context"
	"sync/atomic"

	"github.com/perennial-go/perennial/health"
)

// checkPlugins has the required plugins count for readiness as soon as this
// process is in charge of them. On probation it counts that this release can
// talk to those of its incumbent, which it is to go on with: one that cannot is
// rolled back. Plugins that hang are no reason to.
func (r *running) checkPlugins(successor bool) {
	if r.plugins == nil {
		return
	}
	var rehearsed atomic.Bool // once is enough
	check := health.Check{Name: conditionPlugins, Func: func(ctx context.Context) error {
		select {
		case <-r.upgrader.Active():
			return r.plugins.Ready()
		default:
		}
		if !successor || rehearsed.Load() {
			return nil
		}
		err := r.plugins.Rehearse(ctx)
		rehearsed.Store(err == nil)
		return err
	}}
	if err := r.health.AddCheck(check); err != nil {
		r.log.Warn("plugins do not count for readiness", "error", err)
	}
}
