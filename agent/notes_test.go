package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/perennial-go/perennial/upgrade"
)

// noteCalls has the program note in a file what the agent calls, a line each:
// "stop in 1.0.0".
func noteCalls(cfg *Config, path string) {
	note := func(what string) error {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(f, "%s in %s\n", what, cfg.Version)
		return errors.Join(err, f.Close())
	}
	start := cfg.Start
	cfg.Start = func(ctx context.Context, a *Agent) error {
		a.Go("notes", func(ctx context.Context) error {
			<-ctx.Done()
			return note("draining")
		})
		return errors.Join(note("start"), start(ctx, a))
	}
	// A drain is over as soon as it has begun.
	cfg.Drain.Tail, cfg.Drain.Idle = time.Millisecond, time.Millisecond
	cfg.Stop = func(context.Context) error { return note("stop") }
	hook := func(what string) func(context.Context, upgrade.Change) error {
		return func(context.Context, upgrade.Change) error { return note(what) }
	}
	cfg.Upgrade.Hooks.BeforeStart, cfg.Upgrade.Hooks.AfterRollback = hook("before-start"), hook("after-rollback")
}
