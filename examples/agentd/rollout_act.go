package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/rollout"
)

// rolloutAct is a command that an operator gives to a rollout.
type rolloutAct struct {
	use, short, long string
	do               func(*rollout.Operator, context.Context, rollout.Act) (rollout.Plan, error)
	done             func(*rollout.Plan) string
}

func pausing() rolloutAct {
	return rolloutAct{
		use: "pause", short: "Admit no more agents for now",
		long: `pause has no more agents admitted. Those that have been go on; agentd rollout freeze
holds up those that have not started as well.`,
		do: (*rollout.Operator).Pause, done: always("no more agents are admitted until agentd rollout resume"),
	}
}

func resuming() rolloutAct {
	return rolloutAct{
		use: "resume", short: "Go on with a rollout that is paused or halted",
		long: `resume goes on with a rollout that an operator has paused, that an inconclusive
judgement has paused, or that a failed one has halted. What the judgement was made of
stays: if it still fails, the rollout halts again.`,
		do: (*rollout.Operator).Resume, done: always("it goes on"),
	}
}

func promoting() rolloutAct {
	return rolloutAct{
		use: "promote", short: "Open the gate of the stage that waits for it",
		long: `promote lets the stage begin that waits for an operator; a blue-green rollout
switches by it.

Where no stage waits for that it takes the stage that is under way as it is: once all
of its agents have been admitted, it passes without the rest of its soak, its checks
and its judgement, and the next stage begins although it has a gate. So also where the
judgement was inconclusive. A stage that has failed still fails.`,
		do: (*rollout.Operator).Promote, done: promoted,
	}
}

func always(text string) func(*rollout.Plan) string {
	return func(*rollout.Plan) string { return text }
}

// promoted says what it was: a gate, or a stage that had begun.
func promoted(p *rollout.Plan) string {
	if p.Stage < len(p.Stages) && p.Promoted > p.Stage+1 {
		return fmt.Sprintf("stage %s is taken as it is, once all of its agents are admitted", p.Stages[p.Stage].Name)
	}
	return "the gate is open"
}

func aborting() rolloutAct {
	return rolloutAct{
		use: "abort", short: "End a rollout where it is",
		long: `abort ends the rollout: agents that have changed stay so, those under way go on, and
nobody else is admitted. agentd rollout revert brings those back that have changed.`,
		do: (*rollout.Operator).Abort, done: always("nobody else is admitted, and what has changed stays so"),
	}
}

func newRolloutActCommand(a rolloutAct) *cobra.Command {
	var flags rolloutFlags
	var who actFlags
	cmd := &cobra.Command{
		Use: a.use, Short: a.short, Long: a.long,
		Example: fmt.Sprintf("  agentd rollout %s --etcd http://127.0.0.1:2379 --reason 'ticket 4711'", a.use),
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			op, err := flags.open()
			if err != nil {
				return err
			}
			defer op.close()
			var p rollout.Plan
			err = flags.etcd.ask(cmd.Context(), func(ctx context.Context) (err error) {
				p, err = a.do(op.Operator, ctx, who.act())
				return err
			})
			if err != nil {
				return err
			}
			return flags.tellPlan(cmd.OutOrStdout(), &p, fmt.Sprintf("rollout %s is %s: %s", p.ID, p.State, a.done(&p)))
		},
	}
	flags.add(cmd)
	who.add(cmd)
	return cmd
}
