package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/plugin"
)

// listedPlugin is a plugin in JSON.
type listedPlugin struct {
	Agent string `json:"agent,omitempty"`
	plugin.Status
}

// pluginList is what agentd plugin list was called with.
type pluginList struct {
	fleet fleetFlags
	local localPlugins
	agent string
}

func newPluginListCommand() *cobra.Command {
	var l pluginList
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the plugins of an agent or of the whole fleet",
		Long: `list prints the plugins of agents: what runs, since when, what failed, and what
it uses. Of a fleet it reads what agents have written into etcd, where memory,
processor time and open tasks are up to a minute old. With --state-dir it asks
the agent of this host, without network, and what it says is of now.

GEN is the generation: it counts with each exchange of the files and each restart
by hand. EXCEPTIONS are failures of the plugin and of its tasks, TASKS those that
it works on, CPU the time that the process has used, MEMORY its resident memory.`,
		Example: `  agentd plugin list --etcd http://127.0.0.1:2379
  agentd plugin list --etcd http://127.0.0.1:2379 -l 'env=prod,.plugin=logtail'
  agentd plugin list --state-dir /var/lib/agentd -o json`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error { return l.run(cmd) },
	}
	l.fleet.output = formatFlag(cmd)
	l.fleet.etcd.addOptional(cmd)
	l.fleet.etcd.timeoutFlag(cmd)
	f := cmd.Flags()
	f.StringVarP(&l.fleet.selector, "selector", "l", "", "`which` agents, such as env=test,.plugin=logtail; default all")
	f.StringVar(&l.agent, "agent", "", "`id` of the only agent to show")
	l.local.add(cmd)
	return cmd
}

func (l *pluginList) run(cmd *cobra.Command) error {
	all, err := l.plugins(cmd)
	if err != nil {
		return err
	}
	if l.fleet.output.json() {
		return printJSON(cmd.OutOrStdout(), all)
	}
	return printPlugins(cmd.OutOrStdout(), all, time.Now())
}

func (l *pluginList) plugins(cmd *cobra.Command) ([]listedPlugin, error) {
	switch {
	case l.local.stateDir != "" && (l.agent != "" || l.fleet.selector != ""):
		return nil, usagef("--state-dir is for the agent on this host, --agent and --selector are for those in etcd: give one of them (or unset %s)", variable("state-dir"))
	case l.local.stateDir != "":
		return l.ofThisHost(cmd)
	case len(l.fleet.etcd.endpoints) == 0:
		return nil, usagef("%s wants --etcd, such as --etcd http://127.0.0.1:2379, or on the agent's host --state-dir /var/lib/agentd (or %s)", cmd.CommandPath(), variable("state-dir"))
	}
	return l.ofTheFleet(cmd)
}

func (l *pluginList) ofThisHost(cmd *cobra.Command) ([]listedPlugin, error) {
	all := []listedPlugin{}
	plugins, err := l.local.ask(cmd.Context(), plugin.Request{Action: plugin.ActionList, By: requester()})
	for _, p := range plugins {
		all = append(all, listedPlugin{Status: p})
	}
	return all, err
}

func (l *pluginList) ofTheFleet(cmd *cobra.Command) ([]listedPlugin, error) {
	f := &l.fleet
	f.stdout, f.progress = cmd.OutOrStdout(), cmd.ErrOrStderr()
	if err := f.check(); err != nil {
		return nil, err
	}
	if l.agent != "" {
		var err error
		if f.selected, err = agent.ParseSelector(join(f.selected.String(), oneOf(".id", []string{l.agent}))); err != nil {
			return nil, usagef("--agent: %w", err)
		}
	}
	var err error
	if f.directory, err = f.etcd.directory(); err != nil {
		return nil, err
	}
	defer func() { _ = f.directory.Close() }()
	found, err := f.list(cmd.Context(), func(e agent.Entry, _ time.Time) fleetLine {
		return fleetLine{entry: &listedAgent{Entry: &agent.Entry{Registration: agent.Registration{ID: e.ID}, Plugins: e.Plugins, Error: e.Error}}}
	})
	if err != nil {
		return nil, err
	}
	if l.agent != "" && found.found == 0 {
		return nil, fmt.Errorf("no agent %s is registered: agentd fleet lists those that are", l.agent)
	}
	all := []listedPlugin{}
	for _, e := range found.entries() {
		for _, p := range e.Plugins {
			all = append(all, listedPlugin{e.ID, p.Status})
		}
		if e.Error != "" {
			say(f.progress, "%s: %s", e.ID, oneLine(e.Error))
		}
	}
	return all, nil
}

// join is a selector of all requirements that are not empty.
func join(requirements ...string) string {
	var all []string
	for _, r := range requirements {
		all = append(all, notEmpty(r)...)
	}
	return strings.Join(all, ",")
}

func printPlugins(w io.Writer, all []listedPlugin, now time.Time) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "there are no plugins")
		return err
	}
	rows := [][]string{{"AGENT", "PLUGIN", "VERSION", "STATE", "SINCE", "GEN", "RESTARTS", "EXCEPTIONS", "TASKS", "CPU", "MEMORY", "NOTES"}}
	for _, p := range all {
		rows = append(rows, []string{
			dash(p.Agent), p.Name, dash(p.Version), string(p.State), age(now, p.Since),
			strconv.FormatInt(p.Generation, 10), strconv.FormatInt(p.Restarts, 10), strconv.FormatInt(p.Exceptions, 10),
			strconv.Itoa(p.OpenTasks), processorTime(p.Usage), memoryOf(p.Usage), dash(p.Reason),
		})
	}
	return printTable(w, rows)
}

// age is how long ago something was, as people say it.
func age(now, then time.Time) string {
	d := now.Sub(then)
	switch {
	case then.IsZero():
		return "-"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(max(d, 0).Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func processorTime(u plugin.Usage) string {
	if u.RSSBytes == 0 { // it was not measured
		return "-"
	}
	return (time.Duration(u.CPUSeconds*10) * time.Second / 10).String()
}

func memoryOf(u plugin.Usage) string {
	if u.RSSBytes == 0 {
		return "-"
	}
	return mebibytes(u.RSSBytes)
}
