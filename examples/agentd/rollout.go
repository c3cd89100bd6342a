package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/examples/agentd/internal/rolloutview"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

func newRolloutCommand() *cobra.Command {
	cmd := newGroup("rollout", "Bring a release or a configuration to a fleet in stages that are judged",
		`  agentd rollout start --etcd http://127.0.0.1:2379 --repo repo --trust keys/release.pub --wait 2h 1.1.0
  agentd rollout status --etcd http://127.0.0.1:2379 --watch`,
		newRolloutStartCommand(),
		newRolloutStatusCommand(),
		newRolloutActCommand(pausing()),
		newRolloutActCommand(resuming()),
		newRolloutActCommand(promoting()),
		newRolloutActCommand(aborting()),
		newRolloutRevertCommand(),
		newRolloutHistoryCommand(),
		newRolloutFreezeCommand(),
		newRolloutUnfreezeCommand(),
		newRolloutControllerCommand(),
	)
	cmd.Long = `A rollout is one plan for one fleet: what is to run, which agents, and in which
stages. Its agents start when the plan admits them; a controller, which one of the
agents (agentd run --rollout-controller) or agentd rollout controller hosts, admits
them, judges each stage, and halts or reverts by itself. docs/rollouts.md walks
through it.`
	return cmd
}

// rolloutFlags say which fleet a command is about.
type rolloutFlags struct {
	etcd   etcdFlags
	fleet  string
	output *format
}

func (r *rolloutFlags) add(cmd *cobra.Command) {
	r.etcd.addTimeout(cmd)
	r.addFleet(cmd)
	r.output = formatFlag(cmd)
}

func (r *rolloutFlags) addFleet(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.fleet, "fleet", rollout.DefaultFleet, "`name` of the fleet")
}

// fleetOperator operates the rollouts of the fleet; to be closed.
type fleetOperator struct {
	*rollout.Operator
	flags     *rolloutFlags
	directory *agent.Directory
}

func (r *rolloutFlags) open() (*fleetOperator, error) {
	directory, err := r.etcd.directory()
	if err != nil {
		return nil, err
	}
	op, err := directory.Rollouts(r.fleet)
	if err != nil {
		return nil, errors.Join(usagef("--fleet: %w", err), directory.Close())
	}
	return &fleetOperator{op, r, directory}, nil
}

func (o *fleetOperator) close() { _ = o.directory.Close() }

// status reads the rollout within the timeout.
func (o *fleetOperator) status(ctx context.Context) (v rollout.View, err error) {
	err = o.flags.etcd.ask(ctx, func(ctx context.Context) error {
		v, err = o.Status(ctx)
		return err
	})
	return v, replaceable(err)
}

// replaceable says what helps where a plan cannot be read.
func replaceable(err error) error {
	if errors.Is(err, rollout.ErrPlan) {
		return fmt.Errorf("%w: agentd rollout start --replace puts another rollout in its place", err)
	}
	return err
}

// do does something to the rollout, and says what can be done in place of what its
// state does not allow.
func (o *fleetOperator) do(ctx context.Context, act func(context.Context) (rollout.Plan, error)) (p rollout.Plan, err error) {
	err = o.flags.etcd.ask(ctx, func(ctx context.Context) error {
		p, err = act(ctx)
		return err
	})
	if errors.Is(err, rollout.ErrState) {
		if v, unread := o.status(ctx); unread == nil && v.Plan != nil && rolloutview.Advice(v.Plan) != "" {
			err = fmt.Errorf("%w: %s", err, rolloutview.Advice(v.Plan))
		}
	}
	return p, replaceable(err)
}

// cause is why a rollout went back or was ended, which its plan no longer tells
// once that has come about; "" of others.
func (o *fleetOperator) cause(ctx context.Context, p *rollout.Plan) (string, error) {
	if p.State != rollout.Reverting && p.State != rollout.Reverted && p.State != rollout.Aborted {
		return "", nil
	}
	var past []rollout.Past
	err := o.flags.etcd.ask(ctx, func(ctx context.Context) (err error) {
		past, err = o.History(ctx, rollout.HistoryOptions{Rollout: p.ID})
		return err
	})
	if err != nil && !errors.Is(err, rollout.ErrHistory) || len(past) == 0 {
		return "", err
	}
	for _, r := range slices.Backward(past[0].Records) {
		if r.Event == rollout.EventReverting || r.Event == rollout.EventAborted || r.Event == rollout.EventReplaced {
			return r.Why, nil
		}
	}
	return "", nil
}

// entries are all agents of the registry.
func (o *fleetOperator) entries(ctx context.Context) (all []agent.Entry, err error) {
	err = o.flags.etcd.ask(ctx, func(ctx context.Context) error {
		page, err := o.directory.List(ctx, agent.ListOptions{})
		all = page.Entries
		return err
	})
	return all, err
}

// membersOf are the agents of a fleet as a rollout sees them.
func membersOf(entries []agent.Entry, fleet string) []*rollout.Member {
	now := time.Now()
	var members []*rollout.Member
	for i := range entries {
		if entries[i].Fleet == fleet {
			members = append(members, agent.RolloutMember(&entries[i], now))
		}
	}
	return members
}

// actFlags say who does something and why.
type actFlags struct {
	by, reason string
}

func (a *actFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.by, "by", "", "who does it, for the history (default user@host)")
	cmd.Flags().StringVar(&a.reason, "reason", "", "why, for the history")
}

func (a *actFlags) act() rollout.Act {
	if a.by == "" {
		a.by = requester()
	}
	return rollout.Act{By: a.by, Reason: a.reason}
}

// endedError is a rollout that ended otherwise than it was asked to.
type endedError struct {
	error

	code int
}

func (e endedError) Unwrap() error { return e.error }

// The exit codes of commands that follow a rollout, beside 0 and 3.
const (
	exitHalted   = 4
	exitReverted = 5
	exitAborted  = 6
)

const rolloutExits = `Exit codes: 0 the rollout has completed, 1 failure, 2 wrong usage, 3 it has not ended
(it is paused, or --wait was over first), 4 it was halted, 5 it was reverted, 6 it
was aborted or replaced by another.`

// endOf is nil of a rollout that has come to wanted. cause is why it has not.
func endOf(p *rollout.Plan, cause string, wanted rollout.State) error {
	if p.State == wanted {
		return nil
	}
	text := fmt.Sprintf("want rollout %s %s, found it %s", p.ID, wanted, p.State)
	if cause = cmp.Or(cause, p.Why); cause != "" {
		text += ": " + cause
	}
	err := errors.New(text)
	switch p.State {
	case rollout.Halted:
		return endedError{fmt.Errorf("%w: look at agentd rollout status, then %s", err, rolloutview.Advice(p)), exitHalted}
	case rollout.Reverted, rollout.Reverting:
		return endedError{err, exitReverted}
	case rollout.Aborted:
		return endedError{err, exitAborted}
	case rollout.Paused:
		return undecidedError{fmt.Errorf("%w: agentd rollout resume goes on with it, promote takes the stage as it is", err)}
	case rollout.Running, rollout.Completed: // completed, and then it was to be reverted
	}
	return undecidedError{err}
}

// tellPlan prints what became of a plan.
func (r *rolloutFlags) tellPlan(w io.Writer, p *rollout.Plan, text string) error {
	if r.output.json() {
		return printJSON(w, p)
	}
	_, err := fmt.Fprintln(w, oneLine(text))
	return err
}
