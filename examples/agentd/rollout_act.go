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
	// force says what --force is for; "" = there is none.
	force string
	do    func(o *rollout.Operator, ctx context.Context, a rollout.Act, force bool) (rollout.Plan, error)
	done  func(*rollout.Plan) string
}

func pausing() rolloutAct {
	return rolloutAct{
		use: "pause", short: "Admit no more agents for now",
		long: `pause has no more agents admitted. Those that have been go on; agentd rollout freeze
holds up those that have not started as well.`,
		do: plainly((*rollout.Operator).Pause), done: always("no more agents are admitted until agentd rollout resume"),
	}
}

func resuming() rolloutAct {
	return rolloutAct{
		use: "resume", short: "Go on with a rollout that is paused or halted",
		long: `resume goes on with a rollout that an operator has paused, that an inconclusive
judgement has paused, or that a failed one has halted. What the judgement was made of
stays: if it still fails, the rollout halts again. A revert that was halted since silent
agents leave no room goes on with agentd rollout revert --past-silent.`,
		do: plainly((*rollout.Operator).Resume), done: resumed,
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
judgement was inconclusive. A rollout that was halted since a stage has failed is
refused: resume, revert or abort it. With --force it goes on, and the stage that has
failed passes as it is, so that the next gets what has failed.`,
		force: "go on with a rollout that was halted, and take the stage that has failed as it is",
		do: func(o *rollout.Operator, ctx context.Context, a rollout.Act, force bool) (rollout.Plan, error) {
			return o.Promote(ctx, rollout.PromoteOptions{Act: a, Failed: force})
		},
		done: promoted,
	}
}

// plainly is a do without --force.
func plainly(do func(*rollout.Operator, context.Context, rollout.Act) (rollout.Plan, error)) func(*rollout.Operator, context.Context, rollout.Act, bool) (rollout.Plan, error) {
	return func(o *rollout.Operator, ctx context.Context, a rollout.Act, _ bool) (rollout.Plan, error) {
		return do(o, ctx, a)
	}
}

// resumed warns of what halts again.
func resumed(p *rollout.Plan) string {
	if p.State == rollout.Reverting && !p.PastSilent {
		return "it goes on; where silent agents leave no room it halts again, and agentd rollout revert --past-silent goes on beside them"
	}
	return "it goes on"
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
		do: plainly((*rollout.Operator).Abort), done: always("nobody else is admitted, and what has changed stays so"),
	}
}

func newRolloutActCommand(a rolloutAct) *cobra.Command {
	var flags rolloutFlags
	var who actFlags
	var force bool
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
			p, err := op.do(cmd.Context(), func(ctx context.Context) (rollout.Plan, error) {
				return a.do(op.Operator, ctx, who.act(), force)
			})
			if err != nil {
				return err
			}
			return flags.tellPlan(cmd.OutOrStdout(), &p, fmt.Sprintf("rollout %s is %s: %s", p.ID, p.State, a.done(&p)))
		},
	}
	flags.add(cmd)
	who.add(cmd)
	if a.force != "" {
		cmd.Flags().BoolVar(&force, "force", false, a.force)
		noVariable(cmd, "force")
	}
	return cmd
}
