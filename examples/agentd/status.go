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
	var t target
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Explain an agent's releases: where they come from, journal, hold, quarantine",
		Long: `status reads the state directory of an agent on this host, running or not,
and says in words what is in it: which releases, of which commit, built when,
signed by whom and allowed by which rule, and what the last attempt came to.
It changes nothing and needs no etcd. Of a document that cannot be read it says
why in its place, as JSON in "unreadable"; the exit code is then 1.

With --etcd and --agent it tells what the registry knows of an agent; as JSON how
its upgrades stand, and "agentd fleet -l .id=a1 -o json" has the rest.`,
		Example: `  agentd status --state-dir /var/lib/agentd
  agentd status --etcd http://127.0.0.1:2379 --agent a1`,
		Args: takes(),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		h, err := t.open(cmd)
		if err != nil {
			return err
		}
		defer h.close()
		if remote, ok := h.(*registryHost); ok {
			return showRemote(cmd, remote, output)
		}
		report, err := upgrade.Inspect(t.stateDir)
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
			err = fmt.Errorf("want every document of %s readable, found that these cannot be read: %q; see above why", t.stateDir, documents)
		}
		return err
	}
	t.add(cmd)
	return cmd
}

// showRemote tells what the registry knows.
func showRemote(cmd *cobra.Command, h *registryHost, output *format) error {
	e, err := h.entry(cmd.Context())
	if err != nil {
		return err
	}
	s := upgradeOf(e)
	if output.json() {
		return printJSON(cmd.OutOrStdout(), s)
	}
	_, err = io.WriteString(cmd.OutOrStdout(), describeStatus(h.name(), s, time.Now())+describeAgent(&e))
	return err
}
