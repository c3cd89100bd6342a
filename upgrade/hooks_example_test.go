package upgrade_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/perennial-go/perennial/upgrade"
)

// ledger is a host program's own data in one file. A newer release may change
// its form, so that the older one needs it back as it was.
type ledger struct{ path string }

func (l ledger) saved(c upgrade.Change) string { return l.path + ".before-" + c.To.Version }

// save is a BeforeStart.
func (l ledger) save(_ context.Context, c upgrade.Change) error {
	data, err := os.ReadFile(l.path)
	if err != nil {
		return err
	}
	return os.WriteFile(l.saved(c), data, 0o600)
}

// restore is an AfterRollback: it may be called twice, and after a save that
// was cut short. The rename is what makes that harmless.
func (l ledger) restore(_ context.Context, c upgrade.Change) error {
	err := os.Rename(l.saved(c), l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was saved, or it is back already
	}
	return err
}

// A host program keeps what a newer release could spoil, and has its data
// back after a rollback.
func ExampleHooks() {
	dir, err := os.MkdirTemp("", "ledger-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	data := ledger{filepath.Join(dir, "ledger")}
	u, err := upgrade.New(upgrade.Config{
		StateDir: filepath.Join(dir, "state"), Name: "bank", Version: "1.0.0",
		Hooks: upgrade.Hooks{BeforeStart: data.save, AfterRollback: data.restore},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = u // Open, Listen, Serving and Run follow

	// What an upgrade that is rolled back comes to:
	ctx, change := context.Background(), upgrade.Change{To: upgrade.Ref{Version: "1.1.0"}}
	write := func(text string) error { return os.WriteFile(data.path, []byte(text), 0o600) }
	err = errors.Join(
		write("written by 1.0.0"), data.save(ctx, change),
		write("converted by 1.1.0"), data.restore(ctx, change), data.restore(ctx, change),
	)
	now, readErr := os.ReadFile(data.path)
	fmt.Println(string(now), errors.Join(err, readErr))
	// Output: written by 1.0.0 <nil>
}

// A host program puts an upgrade off while it does what must not be
// interrupted, for BusyLimit at most; Request.Force does not wait.
func ExampleConfig_busy() {
	var settling bool
	cfg := upgrade.Config{
		StateDir: "/var/lib/bank", Name: "bank", Version: "1.0.0",
		Busy: func(context.Context) string {
			if settling {
				return "the day is being settled"
			}
			return ""
		},
	}
	if _, err := upgrade.New(cfg); err != nil {
		fmt.Println(err)
		return
	}
	settling = true
	fmt.Println(cfg.Busy(context.Background()))
	// Output: the day is being settled
}

// Somebody on the host, or a script, goes back to the release before while
// the network is gone. The agent that runs performs it.
func ExampleAsk() {
	back := func(ctx context.Context) error {
		r, err := upgrade.Ask("/var/lib/bank", upgrade.Request{Action: upgrade.ActionRollback, Expect: "1.1.0", By: "watchdog"})
		if err != nil {
			return err
		}
		end, err := upgrade.Follow(ctx, "/var/lib/bank", r.ID, func(a upgrade.Attempt) { fmt.Println(a.State) })
		if err == nil && end.State != upgrade.Committed {
			err = errors.New(end.Reason)
		}
		return err
	}
	_ = back
	// Output:
}
