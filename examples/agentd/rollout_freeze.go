package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/examples/agentd/internal/rolloutview"
)

func newRolloutFreezeCommand() *cobra.Command {
	var flags rolloutFlags
	var who actFlags
	var reverts bool
	cmd := &cobra.Command{
		Use:   "freeze",
		Short: "Pull the fleet's brake",
		Long: `freeze holds up the rollouts of the fleet, also one that begins later, until agentd
rollout unfreeze: nobody is admitted, and agents that were and have not started do not
start. An agent that changes just then ends what it does. Reverts go on, unless
--reverts. It does not need a rollout, or a controller, to work. Orders to one agent
(agentd upgrade, agentd rollback) are not held up.

It is told who had frozen the fleet before and why, which is replaced. agentd rollout
history freeze has all of it.`,
		Example: "  agentd rollout freeze --etcd http://127.0.0.1:2379 --reason 'network works until 6'",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return brake(cmd, &flags, "is frozen; agentd rollout unfreeze releases it", func(ctx context.Context, op *fleetOperator) error {
				return op.Freeze(ctx, who.act(), reverts)
			})
		},
	}
	flags.add(cmd)
	who.add(cmd)
	cmd.Flags().BoolVar(&reverts, "reverts", false, "hold up reverts as well")
	noVariable(cmd, "reverts")
	return cmd
}

func newRolloutUnfreezeCommand() *cobra.Command {
	var flags rolloutFlags
	var who actFlags
	cmd := &cobra.Command{
		Use:     "unfreeze",
		Short:   "Release the fleet's brake",
		Long:    `unfreeze lets rollouts go on that agentd rollout freeze held up.`,
		Example: "  agentd rollout unfreeze --etcd http://127.0.0.1:2379",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return brake(cmd, &flags, "is not frozen", func(ctx context.Context, op *fleetOperator) error {
				return op.Unfreeze(ctx, who.act())
			})
		},
	}
	flags.add(cmd)
	who.add(cmd)
	return cmd
}

// brake does something to the brake and tells how it stands then.
func brake(cmd *cobra.Command, flags *rolloutFlags, done string, do func(context.Context, *fleetOperator) error) error {
	op, err := flags.open()
	if err != nil {
		return err
	}
	defer op.close()
	before, err := op.status(cmd.Context())
	if err != nil && before.Revision == 0 { // a plan that cannot be read keeps nobody from the brake
		return err
	}
	if err := flags.etcd.ask(cmd.Context(), func(ctx context.Context) error { return do(ctx, op) }); err != nil {
		return err
	}
	if flags.output.json() {
		v, err := op.status(cmd.Context())
		if err != nil {
			return err
		}
		return printJSON(cmd.OutOrStdout(), map[string]any{"fleet": flags.fleet, "freeze": v.Freeze})
	}
	if _, err = fmt.Fprintln(cmd.OutOrStdout(), "fleet", flags.fleet, done); err != nil || before.Freeze == nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), "it was", oneLine(rolloutview.Frozen(before.Freeze))+"; agentd rollout history freeze has that")
	return err
}
