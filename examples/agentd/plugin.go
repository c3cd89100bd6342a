package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/upgrade"
)

func newPluginCommand() *cobra.Command {
	return newGroup("plugin", "See the plugins of agents, steer them, and pack them for hosts",
		"  agentd plugin list --etcd http://127.0.0.1:2379\n  agentd plugin restart --state-dir /var/lib/agentd logtail",
		newPluginListCommand(),
		newPluginLogsCommand(),
		newPluginRestartCommand(),
		newPluginDisableCommand(),
		newPluginEnableCommand(),
		newPluginInstallCommand(),
	)
}

// pluginState is where agentd's plugins keep what they need.
func pluginState(stateDir string) string { return filepath.Join(stateDir, "plugins") }

// localPlugins are those of the agent of a state directory, which is asked by
// a file.
type localPlugins struct {
	stateDir string
	wait     time.Duration
}

func (l *localPlugins) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&l.stateDir, "state-dir", "", "state `directory` of the agent on this host")
	l.waitFlag(cmd)
}

func (l *localPlugins) waitFlag(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&l.wait, "wait", 30*time.Second, "how long to wait for the agent on this host; what it has not begun by then is taken back")
}

// ask has the agent do r and returns its plugins.
func (l *localPlugins) ask(ctx context.Context, r plugin.Request) ([]plugin.Status, error) {
	if l.wait <= 0 {
		return nil, usagef("--wait: want a duration such as 30s, found %v", l.wait)
	}
	report, err := upgrade.Inspect(l.stateDir)
	if err != nil {
		return nil, fmt.Errorf("--state-dir: %w", err)
	}
	if !report.Running {
		return nil, fmt.Errorf("no agent runs on %s: start it, and ask again", l.stateDir)
	}
	ctx, cancel := context.WithTimeout(ctx, l.wait)
	defer cancel()
	all, err := plugin.Ask(ctx, pluginState(l.stateDir), r)
	if errors.Is(err, plugin.ErrUnanswered) {
		return nil, fmt.Errorf("%w; an agent without --plugins has none", err)
	}
	return all, err
}
