package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/plugin"
)

// pluginChange is a command that changes what a plugin of this host does.
type pluginChange struct {
	local  localPlugins
	by     string
	output *format
}

func (c *pluginChange) add(cmd *cobra.Command) {
	c.local.add(cmd)
	require(cmd, "state-dir", "/var/lib/agentd")
	c.output = formatFlag(cmd)
	cmd.Flags().StringVar(&c.by, "by", "", "who asks, for the record (default user@host)")
}

// run has the agent do r and prints what became of the plugin.
func (c *pluginChange) run(cmd *cobra.Command, r plugin.Request) error {
	if r.By = c.by; r.By == "" {
		r.By = requester()
	}
	if err := r.Validate(); err != nil {
		return usagef("%w", err)
	}
	// A start takes as long as the plugin does.
	waiting := time.AfterFunc(time.Second, func() { say(cmd.ErrOrStderr(), "waiting for %s, up to %v", r.Plugin, c.local.wait) })
	all, err := c.local.ask(cmd.Context(), r)
	waiting.Stop()
	i := slices.IndexFunc(all, func(s plugin.Status) bool { return s.Name == r.Plugin })
	switch {
	case err != nil && i < 0 && len(all) > 0:
		return fmt.Errorf("%w; agentd plugin list --state-dir %s tells what plugins there are", err, c.local.stateDir)
	case err != nil:
		return err
	case i < 0:
		all, i = []plugin.Status{{Name: r.Plugin, State: plugin.Stopped}}, 0 // its files are gone
	}
	if c.output.json() {
		return printJSON(cmd.OutOrStdout(), listedPlugin{Status: all[i]})
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), describePlugin(all[i]))
	return err
}

// describePlugin is one line about a plugin.
func describePlugin(s plugin.Status) string {
	text := s.Name
	if s.Version != "" {
		text += " " + s.Version
	}
	text += " is " + string(s.State)
	if s.PID != 0 {
		text += fmt.Sprintf(", pid %d", s.PID)
	}
	if s.Generation != 0 {
		text += fmt.Sprintf(", generation %d", s.Generation)
	}
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return oneLine(text)
}

func newPluginRestartCommand() *cobra.Command {
	var c pluginChange
	cmd := &cobra.Command{
		Use:   "restart NAME",
		Short: "Put a new process of a plugin in place of the one that runs",
		Long: `restart starts a new process of a plugin and, once that is healthy, stops the
one before, whose tasks get time to finish. If it does not come up, the one
before works on, and the command says why. A plugin that is quarantined, or
waits after a crash, is started at once.`,
		Example: "  agentd plugin restart --state-dir /var/lib/agentd logtail",
		Args:    takes("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd, plugin.Request{Action: plugin.ActionRestart, Plugin: args[0]})
		},
	}
	c.add(cmd)
	return cmd
}

func newPluginDisableCommand() *cobra.Command {
	var c pluginChange
	var reason string
	cmd := &cobra.Command{
		Use:   "disable NAME",
		Short: "Stop a plugin until it is enabled",
		Long: `disable stops a plugin. It stays stopped, also when its files change and when
the agent is upgraded or started again, until plugin enable. The reason is shown
to whoever looks. Its process may end a moment after the command.`,
		Example: "  agentd plugin disable --state-dir /var/lib/agentd --reason 'floods the disk' logtail",
		Args:    takes("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd, plugin.Request{Action: plugin.ActionDisable, Plugin: args[0], Reason: reason})
		},
	}
	c.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why; shown to whoever asks")
	require(cmd, "reason", "audit")
	return cmd
}

func newPluginEnableCommand() *cobra.Command {
	var c pluginChange
	cmd := &cobra.Command{
		Use:   "enable NAME",
		Short: "Start a plugin that was disabled",
		Long: `enable starts a plugin that was disabled; its failures are forgotten. One that
is not disabled is left as it is.`,
		Example: "  agentd plugin enable --state-dir /var/lib/agentd logtail",
		Args:    takes("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd, plugin.Request{Action: plugin.ActionEnable, Plugin: args[0]})
		},
	}
	c.add(cmd)
	return cmd
}
