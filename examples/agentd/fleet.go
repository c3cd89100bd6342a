package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/agent"
)

func newFleetCommand() *cobra.Command {
	f := &fleetFlags{}
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "List the agents, the worst first: version, state, health, last upgrade, what is wrong",
		Long: `fleet lists the agents that are registered, which is those that are alive, the
worst first and then by their ids. Of plugins that run it shows how many there are, of
others what they are; WORST has the worst that is wrong, as far as it fits, and NOTES
what else is out of the ordinary: a hold, a revoked key of what runs, what an upgrade
waits for, and what failed last. "agentd fleet show ID" has an agent's tree, -o json
all that is known, with "severity" (ok, warning, unknown, critical) and "worst".

--selector says which agents, in the syntax of Kubernetes: labels as in env=test,
tier!=web, zone in (a,b), gpu, !legacy, joined by commas. A name that begins with a
dot is a field: .alert .config .fleet .group .health .hold .host .id .platform
.plugin .state .upgrade .version, and of what the agent runs on .container .image
.kernel .libc .orchestrator .os .runtime. A value that ends with * stands for all
that begin so, and .version takes constraints: .version>=1.2. --group, --state and
--version add to the selector.

--summary counts the agents instead, and names the worst, those whose status is
overdue and those without any. With --watch the command stays until it is
interrupted and prints what changes, at most once a second; with -o json one event
a line, at once: "added", "changed" and "removed" with the agent, and "synced" once
those that are there have been told.`,
		Example: `  agentd fleet --etcd http://127.0.0.1:2379
  agentd fleet --etcd http://127.0.0.1:2379 -l 'env=prod,zone in (a,b),.health!=ready'
  agentd fleet --etcd http://127.0.0.1:2379 -l .fleet=shop --summary
  agentd fleet --etcd http://127.0.0.1:2379 --group web --version '<1.4' --wide
  agentd fleet --etcd http://127.0.0.1:2379 --summary --watch
  agentd fleet --etcd http://127.0.0.1:2379 --watch -o json`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.output = formatFlag(cmd)
	f.etcd.addTimeout(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&f.selector, "selector", "l", "", "`which` agents, such as env=test,.version>=1.2; default all")
	flags.StringSliceVar(&f.groups, "group", nil, "only agents in one of these `groups`")
	noVariable(cmd, "group")
	flags.StringSliceVar(&f.states, "state", nil, "only agents in one of these `states`, such as running")
	flags.StringVar(&f.version, "version", "", "only agents whose version is in this `range`, such as 1.2.3, 1.x or \">=1.2, <2\"")
	flags.IntVar(&f.limit, "limit", 0, "list at most this `number` of agents, the worst; 0 is all")
	flags.BoolVar(&f.wide, "wide", false, "show host, platform, digest, fleet, groups and labels as well")
	flags.BoolVar(&f.summary, "summary", false, "count the agents by version, state, health, configuration and more")
	flags.BoolVar(&f.watch, "watch", false, "stay, and print what changes")
	cmd.AddCommand(newFleetShowCommand())
	return cmd
}

// fleetFlags are what the command was called with.
type fleetFlags struct {
	etcd             etcdFlags
	output           *format
	selector         string
	groups, states   []string
	version          string
	limit            int
	wide             bool
	summary, watch   bool
	selected         agent.Selector
	directory        *agent.Directory
	progress, stdout io.Writer
}

func (f *fleetFlags) run(cmd *cobra.Command) error {
	f.stdout, f.progress = cmd.OutOrStdout(), cmd.ErrOrStderr()
	if err := f.check(); err != nil {
		return err
	}
	var err error
	if f.directory, err = f.etcd.directory(); err != nil {
		return err
	}
	defer func() { _ = f.directory.Close() }()
	if f.watch {
		return f.follow(cmd.Context())
	}
	if f.summary {
		return f.summarise(cmd.Context())
	}
	l, err := f.list(cmd.Context(), f.line)
	if err != nil {
		return err
	}
	f.tellStrays(l.strays)
	if !f.selected.IsZero() {
		f.tellFound(l.found)
	}
	if f.output.json() {
		err = printJSON(f.stdout, l.entries())
	} else {
		err = f.printAll(l.rows())
	}
	if l.found > len(l.agents) {
		say(f.progress, "--limit leaves out %s, none worse", counted(l.found-len(l.agents), "agent"))
	}
	return err
}

// tellFound says how many a selector has found: part of it may have come from the
// environment.
func (f *fleetFlags) tellFound(n int) {
	say(f.progress, "%s selected by %s", counted(n, "agent"), printable(f.selected.String()))
}

// summarise prints the fleet in one look, also of what was read before an error.
func (f *fleetFlags) summarise(ctx context.Context) error {
	var fleet agent.Fleet
	told := time.Now()
	err := f.etcd.ask(ctx, func(ctx context.Context) (err error) {
		fleet, err = f.directory.Fleet(ctx, agent.FleetOptions{Selector: f.selected, Progress: func(n int) {
			if time.Since(told) > time.Second {
				told = time.Now()
				say(f.progress, "%s so far", counted(n, "agent"))
			}
		}})
		return err
	})
	if err != nil && fleet.Agents == 0 {
		return err
	}
	f.tellStrays(fleet.Strays)
	if !f.selected.IsZero() {
		f.tellFound(fleet.Agents)
	}
	return errors.Join(printSummary(f.stdout, &fleet, f.output), err)
}

// printAll prints a table of agents.
func (f *fleetFlags) printAll(rows [][]string) error {
	if len(rows) > 0 {
		return fleetTable{wide: f.wide}.print(f.stdout, rows)
	}
	text := "no agent is registered"
	if !f.selected.IsZero() {
		text += " that matches " + f.selected.String()
	}
	_, err := fmt.Fprintln(f.stdout, text)
	return err
}

// check reads the selector and refuses what does not go together.
func (f *fleetFlags) check() error {
	switch {
	case f.limit < 0:
		return usagef("--limit: want 0 or more, found %d", f.limit)
	case f.limit > 0 && (f.watch || f.summary):
		return usagef("--limit is for a list: leave it out with --watch and --summary")
	case f.wide && (f.summary || f.output.json()):
		return usagef("--wide is for a table: leave it out with --summary and -o json, which has everything")
	}
	var all []string
	for _, part := range []struct{ flag, text string }{
		{"selector", strings.TrimSpace(f.selector)},
		{"group", oneOf(".group", f.groups)},
		{"state", oneOf(".state", f.states)},
		{"version", oneOf(".version", notEmpty(f.version))},
	} {
		if _, err := agent.ParseSelector(part.text); err != nil {
			return usagef("--%s: %w", part.flag, err)
		}
		if part.text != "" {
			all = append(all, part.text)
		}
	}
	var err error
	if f.selected, err = agent.ParseSelector(strings.Join(all, ",")); err != nil {
		return usagef("--selector and the other flags together: %w", err)
	}
	return nil
}

// oneOf selects one of some values; none is no requirement.
func oneOf(field string, values []string) string {
	if len(values) == 0 {
		return ""
	}
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = strconv.Quote(v)
	}
	return field + " in (" + strings.Join(quoted, ",") + ")"
}

func notEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func (f *fleetFlags) tellStrays(s agent.Strays) {
	if s.Count > 0 {
		say(f.progress, "%d keys among the agents' belong to none, such as %s", s.Count, oneLine(strings.Join(s.Examples, ", ")))
	}
}
