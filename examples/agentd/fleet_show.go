package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/agent"
)

func newFleetShowCommand() *cobra.Command {
	var etcd etcdFlags
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show one agent as a tree: registration, config, upgrade, checks, alerts and each plugin",
		Long: `show prints the tree that an agent has written as its status: how each part of it
is, why, and since when, the worst first. Where there was no room for all it says how
much was left out. -o json has "severity", "worst" and "tree".`,
		Example: `  agentd fleet show --etcd http://127.0.0.1:2379 a1
  agentd fleet show --etcd http://127.0.0.1:2379 a1 -o json`,
		Args: takes("ID"),
	}
	output := formatFlag(cmd)
	etcd.addTimeout(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		directory, err := etcd.directory()
		if err != nil {
			return err
		}
		h := registryHost{etcd: &etcd, directory: directory, id: args[0]}
		defer h.close()
		e, err := h.entry(cmd.Context())
		if err != nil {
			return err
		}
		severity, worst := e.Standing(time.Now())
		tree := e.Tree()
		if output.json() {
			return printJSON(cmd.OutOrStdout(), shownAgent{e.ID, severity.String(), worst, tree})
		}
		text := tree.String()
		if overdue := e.Overdue(time.Now()); overdue > 0 {
			text = fmt.Sprintf("this is %v old: the agent has not written its status since\n", overdue.Round(time.Second)) + text
		}
		_, err = fmt.Fprint(cmd.OutOrStdout(), text)
		return err
	}
	return cmd
}

// shownAgent is one agent as JSON.
type shownAgent struct {
	ID       string     `json:"id"`
	Severity string     `json:"severity"`
	Worst    string     `json:"worst,omitempty"`
	Tree     agent.Node `json:"tree"`
}
