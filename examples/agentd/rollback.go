package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade"
)

func newRollbackCommand() *cobra.Command {
	var o order
	var allowWithdrawn bool
	cmd := &cobra.Command{
		Use:   "rollback [VERSION|VERSION@sha256:DIGEST]",
		Short: "Take one agent back to a release that it has kept",
		Long: `rollback has an agent go back to a release that it ran before and has kept
(agentd status lists them), without a version to the one before. That is the
release that was left last, so that a second rollback goes forward again: name
a VERSION to go further back. Where it leads is printed before it is asked for.

It needs no repository and does not mind an index that has expired; the release
passes a probation as in an upgrade. One that failed on this host stays in quarantine
until agentd quarantine clear. One that the host knows to be withdrawn by its
publisher is refused, with the names of others, unless --allow-withdrawn says that
it must be this one. An agent makes no rollback by an order in etcd where it runs with
--remote-rollback never: ask on its own host then.

The agent is named by --etcd and --agent, or, on its own host and without
etcd, by --state-dir. Where no agent runs on that directory, the release
becomes the one that the next start boots.

Exit code 0 means that the release was committed, or will boot, or that there
was nothing to do since it runs, or boots next, already.`,
		Example: `  agentd rollback --etcd http://127.0.0.1:2379 --agent a1
  agentd rollback --state-dir /var/lib/agentd --by pager 1.0.0`,
		Args: between(0, "VERSION"),
	}
	o.bind(cmd, func(_ context.Context, args []string, _ io.Writer) (upgrade.Request, error) {
		pin, err := partialPin(args)
		return upgrade.Request{Action: upgrade.ActionRollback, Pin: pin, AllowWithdrawn: allowWithdrawn}, err
	})
	cmd.Flags().BoolVar(&allowWithdrawn, "allow-withdrawn", false, "go back also to a release that the host knows to be withdrawn; with --agent only where it runs with --remote-rollback any")
	return cmd
}

// rollBack is for a directory on which no agent runs.
func (h *localHost) rollBack(r upgrade.Request, w io.Writer) (upgrade.Status, error) {
	a, err := upgrade.RollBack(h.dir, r)
	if err != nil {
		return upgrade.Status{}, err
	}
	say(w, "no agent runs on %s: %s boots at the next start", h.dir, a.From.Version)
	if a.State == upgrade.Committed {
		say(w, "%s", a.Reason)
	}
	return upgrade.Status{Attempt: a, Running: a.From}, nil
}
