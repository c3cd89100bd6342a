package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade"
)

func newHoldCommand() *cobra.Command {
	return newGroup("hold", "Keep an agent out of upgrades and rollbacks", "  agentd hold set --state-dir /var/lib/agentd --reason audit",
		newHoldSetCommand(), newHoldClearCommand(), newHoldShowCommand())
}

// change is a command that has an agent remember or forget something.
type change struct {
	target
	by     string
	wait   time.Duration
	output *format
}

func (c *change) add(cmd *cobra.Command) {
	c.target.add(cmd)
	c.output = formatFlag(cmd)
	cmd.Flags().StringVar(&c.by, "by", "", "who asks, for the record (default user@host)")
	cmd.Flags().DurationVar(&c.wait, "wait", time.Minute, "how long to wait for the agent's answer; during an upgrade it comes at the end")
}

// settle has the agent do r, and says so; as JSON it prints what left is of
// what the agent then has, which is what the command that shows it prints.
func (c *change) settle(cmd *cobra.Command, r upgrade.Request, done string, left func(upgrade.Status) any) error {
	h, err := c.open(cmd)
	if err != nil {
		return err
	}
	defer h.close()
	if r.By = c.by; r.By == "" {
		r.By = requester()
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), c.wait)
	defer cancel()
	s, err := h.settle(ctx, r)
	if err != nil {
		return err
	}
	if c.output.json() {
		return printJSON(cmd.OutOrStdout(), left(s))
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", h.name(), done)
	return err
}

func newHoldSetCommand() *cobra.Command {
	var c change
	var reason string
	cmd := &cobra.Command{
		Use:   "set",
		Short: "Hold an agent",
		Long: `set holds an agent: from now on it refuses every upgrade and rollback, whoever
asks, until hold clear. What is in progress is not interrupted. With
--state-dir the agent need not run. A release that does not start is given up
all the same. With -o json it prints what hold show does.`,
		Example: `  agentd hold set --etcd http://127.0.0.1:2379 --agent a1 --reason audit
  agentd hold set --state-dir /var/lib/agentd --reason audit`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.settle(cmd, upgrade.Request{Action: upgrade.ActionHold, Reason: reason}, "held", holdOf)
		},
	}
	c.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why; shown to whoever asks for an upgrade")
	require(cmd, "reason", "audit")
	return cmd
}

func newHoldClearCommand() *cobra.Command {
	var c change
	cmd := &cobra.Command{
		Use:   "clear",
		Short: "End the hold of an agent",
		Long: `clear ends the hold of an agent, which then takes upgrades and rollbacks
again. An agent that is not held is left as it is. With -o json it prints what
hold show does.`,
		Example: `  agentd hold clear --etcd http://127.0.0.1:2379 --agent a1
  agentd hold clear --state-dir /var/lib/agentd`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.settle(cmd, upgrade.Request{Action: upgrade.ActionUnhold}, "not held", holdOf)
		},
	}
	c.add(cmd)
	return cmd
}

func newHoldShowCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Tell whether an agent is held, by whom and why",
		Long:  `show tells whether an agent is held, by whom, since when and why.`,
		Example: `  agentd hold show --etcd http://127.0.0.1:2379 --agent a1
  agentd hold show --state-dir /var/lib/agentd -o json`,
		Args: takes(),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := t.ask(cmd, upgrade.DocumentHold)
		if err != nil {
			return err
		}
		if output.json() {
			return printJSON(cmd.OutOrStdout(), holdOf(s))
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), describeHold(s.Hold))
		return err
	}
	t.add(cmd)
	return cmd
}

// holdOf is printed as JSON, null where there is no hold.
func holdOf(s upgrade.Status) any { return s.Hold }

// ask returns what is known of the agent now, which must include document.
func (t *target) ask(cmd *cobra.Command, document upgrade.Document) (upgrade.Status, error) {
	h, err := t.open(cmd)
	if err != nil {
		return upgrade.Status{}, err
	}
	defer h.close()
	s, err := h.status(cmd.Context())
	if local, ok := h.(*localHost); ok && err == nil && local.unreadable[document] != "" {
		err = errors.New(local.unreadable[document])
	}
	return s, err
}
