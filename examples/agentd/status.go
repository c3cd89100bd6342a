package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
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
and says in words what is in it. It changes nothing and needs no etcd. Of a
document that cannot be read it says why in its place, as JSON in "unreadable";
the exit code is then 1.`,
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
			err = printJSON(cmd.OutOrStdout(), report)
		} else {
			_, err = io.WriteString(cmd.OutOrStdout(), describeState(report, time.Now()))
		}
		if err == nil && len(report.Unreadable) > 0 {
			documents := slices.Sorted(maps.Keys(report.Unreadable))
			err = fmt.Errorf("want every document of %s readable, found that these cannot be read: %q; see above why", dir, documents)
		}
		return err
	}
	cmd.Flags().StringVar(&dir, "state-dir", "", "state `directory` of the agent")
	require(cmd, "state-dir", "/var/lib/agentd")
	return cmd
}
