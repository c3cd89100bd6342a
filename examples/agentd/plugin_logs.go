package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/examples/agentd/internal/pluginlog"
	"github.com/perennial-go/perennial/plugin"
)

func newPluginLogsCommand() *cobra.Command {
	var (
		stateDir string
		follow   bool
		lines    int
	)
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "Print what a plugin of this host has written",
		Long: `logs prints what a plugin has written to its standard output and error, from
the files in the state directory, rotated ones included. The agent need not run.
With --follow it waits for more, through rotations, restarts and upgrades, until
it is interrupted. Of a line it shows the first 64 KiB.`,
		Example: `  agentd plugin logs --state-dir /var/lib/agentd logtail
  agentd plugin logs --state-dir /var/lib/agentd -f -n 10 logtail`,
		Args: takes("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !plugin.ValidName(args[0]) {
				return usagef("NAME: want a plugin's name, found %q", args[0])
			}
			if lines < -1 {
				return usagef("--lines: want a number, or -1 for all, found %d", lines)
			}
			log := pluginlog.Log{Dir: filepath.Join(pluginState(stateDir), "log"), Name: args[0] + ".log"}
			show := func(line string) error {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), strings.TrimRight(printable(line), " "))
				return err
			}
			if follow {
				return log.Follow(cmd.Context(), lines, show, func() {
					say(cmd.ErrOrStderr(), "files were rotated away before they were read: lines are missing here")
				})
			}
			err := log.Last(lines, show)
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("--state-dir: %w; agentd plugin list --state-dir %s tells what plugins there are", err, stateDir)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&stateDir, "state-dir", "", "state `directory` of the agent on this host")
	f.BoolVarP(&follow, "follow", "f", false, "wait for more")
	f.IntVarP(&lines, "lines", "n", 100, "`number` of lines to begin with; -1 is all")
	require(cmd, "state-dir", "/var/lib/agentd")
	return cmd
}
