package main

import (
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade"
)

func newStatusCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Explain a state directory: slots, current, journal, hold, quarantine",
		Long: `status reads the state directory of an agent on this host, running or not,
and says in words what is in it. It changes nothing and needs no etcd.`,
		Example: "  agentd status --state-dir /var/lib/agentd",
		Args:    takes(),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		report, err := upgrade.Inspect(dir)
		if err != nil {
			return err
		}
		if output.json() {
			return printJSON(cmd.OutOrStdout(), report)
		}
		_, err = io.WriteString(cmd.OutOrStdout(), describeState(report, time.Now()))
		return err
	}
	cmd.Flags().StringVar(&dir, "state-dir", "", "state `directory` of the agent")
	require(cmd, "state-dir", "/var/lib/agentd")
	return cmd
}
