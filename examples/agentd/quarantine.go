package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade"
)

func newQuarantineCommand() *cobra.Command {
	return newGroup("quarantine", "Show and clear the releases that an agent refuses because they failed", "  agentd quarantine list --state-dir /var/lib/agentd",
		newQuarantineListCommand(), newQuarantineClearCommand())
}

func newQuarantineListCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the releases that failed on an agent",
		Long: `list shows the releases that failed on an agent, the newest failure last: why,
how often, and until when each is refused. A release that failed by itself is
refused until it is cleared, one that the host failed for a while. With --etcd
the newest 10 are shown, with --state-dir all.`,
		Example: `  agentd quarantine list --etcd http://127.0.0.1:2379 --agent a1
  agentd quarantine list --state-dir /var/lib/agentd -o json`,
		Args: takes(),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := t.ask(cmd, upgrade.DocumentQuarantine)
		if err != nil {
			return err
		}
		if output.json() {
			return printJSON(cmd.OutOrStdout(), quarantineOf(s))
		}
		if len(s.Quarantine) == 0 {
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "the quarantine is empty")
			return err
		}
		rows := [][]string{{"VERSION", "MANIFEST", "CLASS", "FAILURES", "SINCE", "REFUSED", "REASON"}}
		for _, q := range s.Quarantine {
			rows = append(rows, []string{q.Version, short(q.Manifest), string(q.Class), fmt.Sprint(q.Attempts), stamp(q.Since), describeExpiry(q, time.Now()), oneLine(q.Reason)})
		}
		return printTable(cmd.OutOrStdout(), rows)
	}
	t.add(cmd)
	return cmd
}

// quarantineOf is printed as JSON, a list also where it is empty.
func quarantineOf(s upgrade.Status) any { return append([]upgrade.Quarantined{}, s.Quarantine...) }

func newQuarantineClearCommand() *cobra.Command {
	var c change
	cmd := &cobra.Command{
		Use:   "clear [VERSION|VERSION@sha256:DIGEST]",
		Short: "Let releases that failed be tried again",
		Long: `clear takes one version out of an agent's quarantine, without a version all of
them, so that they may be asked for again. With --state-dir the agent need not
run. With -o json it prints what is left, as quarantine list does.`,
		Example: `  agentd quarantine clear --etcd http://127.0.0.1:2379 --agent a1 1.2.0
  agentd quarantine clear --state-dir /var/lib/agentd`,
		Args: between(0, "VERSION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			pin, err := partialPin(args)
			if err != nil {
				return err
			}
			done := "the quarantine is empty"
			if !pin.IsZero() {
				done = pin.Version + " may be tried again"
			}
			return c.settle(cmd, upgrade.Request{Action: upgrade.ActionClear, Pin: pin}, done, quarantineOf)
		},
	}
	c.add(cmd)
	return cmd
}
