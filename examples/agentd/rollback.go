package main

import (
	"context"
	"fmt"
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

While a new release is on probation, a rollback without a version ends that: the
release before still runs, and takes over again at once.

It needs no repository and does not mind an index that has expired; the release
passes a probation as in an upgrade. One that failed on this host stays in quarantine
until agentd quarantine clear. One that the host knows to be withdrawn by its
publisher is refused, with the names of others, unless --allow-withdrawn says that
it must be this one. An agent makes no rollback by an order in etcd where it runs with
--remote-rollback never: ask on its own host then. One whose key was revoked since
is no obstacle, and told. One that was not kept is fetched, by
VERSION@sha256:DIGEST, where the agent runs with --allow-older.

The agent is named by --etcd and --agent, or, on its own host and without
etcd, by --state-dir. Where no agent runs on that directory, the release
becomes the one that the next start boots; -o json then prints it as committed,
from what was current to what boots.

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
	if a.State == upgrade.Committed {
		say(w, "no agent runs on %s: %s", h.dir, a.Reason)
		return upgrade.Status{Attempt: a, Running: a.To}, nil
	}
	say(w, "no agent runs on %s: %s boots at the next start", h.dir, a.From.Version)
	tellRule(w, a)
	return upgrade.Status{Attempt: asAsked(a), Running: a.From}, nil
}

// asAsked turns the record of a rollback that was made while no agent ran, which
// is that of what was taken back, into the answer to whoever asked for it.
func asAsked(a upgrade.Attempt) upgrade.Attempt {
	a.From, a.To = a.To, a.From
	a.State, a.Abandoned = upgrade.Committed, false
	a.Reason = fmt.Sprintf("no agent runs: %s boots at the next start", a.To.Version)
	return a
}

// tellRule says by which rule a rollback was allowed, and with it whether the
// release was withdrawn or its key revoked since.
func tellRule(w io.Writer, a upgrade.Attempt) {
	if a.Action == upgrade.ActionRollback && a.AllowedBy != "" {
		say(w, "allowed by: %s", oneLine(a.AllowedBy))
	}
}
