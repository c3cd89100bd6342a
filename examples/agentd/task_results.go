package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/plugin/dispatch"
)

// taskResults is what agentd task results was called with.
type taskResults struct {
	queue       queueFlags
	after       int64
	follow, raw bool
}

func newTaskResultsCommand() *cobra.Command {
	var r taskResults
	cmd := &cobra.Command{
		Use:   "results ID",
		Short: "Print what a task has yielded",
		Long: `results prints the results of a task, those of one that runs included. With
--follow it prints more as they come, until the task has ended; -o json then has
one result a line. A run that is repeated yields those after its last cursor
again, with the same numbers. Of a task for all agents, its runs have the
results: task list --parent ID.

Exit codes: 0 means that the results were printed, and with --follow that the
task has succeeded; 1 that they could not be, or it has not; 2 wrong usage.`,
		Example: `  agentd task results --etcd http://127.0.0.1:2379 01jx2m
  agentd task results --etcd http://127.0.0.1:2379 --follow -o json 01jx2m`,
		Args: takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error { return r.run(cmd, args[0]) },
	}
	r.queue.add(cmd)
	f := cmd.Flags()
	f.Int64Var(&r.after, "after", 0, "only results after this `number`")
	f.BoolVarP(&r.follow, "follow", "f", false, "wait for more until the task has ended")
	f.BoolVar(&r.raw, "raw", false, "write results as they are, byte by byte")
	noVariable(cmd, "after")
	return cmd
}

func (r *taskResults) run(cmd *cobra.Command, id string) error {
	if r.raw && r.queue.output.json() {
		return usagef("--raw is for results as text: leave it out with -o json")
	}
	if r.after < 0 {
		return usagef("--after: want a number of a result, found %d", r.after)
	}
	q, err := r.queue.open()
	if err != nil {
		return err
	}
	defer q.close()
	deliver := printer{w: cmd.OutOrStdout(), raw: r.raw}.print
	info, err := q.get(cmd.Context(), id)
	if err != nil {
		return err
	}
	if info.Runs != nil {
		say(cmd.ErrOrStderr(), "%s is for all agents, and its runs have the results: agentd task list --parent %s", id, id)
	}
	if !r.follow {
		return r.print(cmd, q, id, deliver)
	}
	if r.queue.output.json() {
		deliver = func(result dispatch.Result) error {
			return json.NewEncoder(printableJSON{cmd.OutOrStdout()}).Encode(textual(result))
		}
	}
	if info, err = q.follow(cmd, id, r.after, deliver); err != nil {
		return err
	}
	return verdict(info)
}

// print prints what there is, page by page.
func (r *taskResults) print(cmd *cobra.Command, q *queue, id string, deliver func(dispatch.Result) error) error {
	const page = 100
	all := []shownResult{}
	for after := r.after; ; {
		var part []dispatch.Result
		err := q.ask(cmd.Context(), func(ctx context.Context) (err error) {
			part, err = q.Results(ctx, id, after, page)
			return err
		})
		if err != nil {
			return err
		}
		for _, result := range part {
			after = result.Number
			if r.queue.output.json() {
				all = append(all, textual(result))
			} else if err := deliver(result); err != nil {
				return err
			}
		}
		if len(part) < page {
			break
		}
	}
	if r.queue.output.json() {
		return printJSON(cmd.OutOrStdout(), all)
	}
	return nil
}

func newTaskWorkersCommand() *cobra.Command {
	var q queueFlags
	cmd := &cobra.Command{
		Use:   "workers",
		Short: "List the agents that take tasks, and who assigns them",
		Long: `workers lists the agents that take tasks now, with their plugins and how many
tasks they run at once, and says on standard error who assigns tasks. ROOM is how
many tasks an agent may be given at a time: what it does not run yet waits there.`,
		Example: "  agentd task workers --etcd http://127.0.0.1:2379",
		Args:    takes(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return q.workers(cmd) },
	}
	q.add(cmd)
	return cmd
}

func (q *queueFlags) workers(cmd *cobra.Command) error {
	queue, err := q.open()
	if err != nil {
		return err
	}
	defer queue.close()
	all, leader := []dispatch.WorkerInfo{}, ""
	err = queue.ask(cmd.Context(), func(ctx context.Context) error {
		found, err := queue.Workers(ctx)
		if err != nil {
			return err
		}
		all = append(all, found...)
		leader, err = queue.Leader(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if leader == "" {
		say(cmd.ErrOrStderr(), "nobody assigns tasks: start an agent without --no-dispatch that etcd permits it, or agentd task dispatcher")
	} else {
		say(cmd.ErrOrStderr(), "tasks are assigned by %s", oneLine(leader))
	}
	if q.output.json() {
		return printJSON(cmd.OutOrStdout(), all)
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "no agent takes tasks")
		return err
	}
	rows := [][]string{{"AGENT", "VERSION", "AT ONCE", "ROOM", "PLUGINS"}}
	for _, w := range all {
		var plugins []string
		for _, p := range w.Plugins {
			plugins = append(plugins, fmt.Sprintf("%s %s (%s)", p.Name, p.Version, strings.Join(p.Capabilities, ", ")))
		}
		rows = append(rows, []string{w.Agent, dash(w.Version), strconv.Itoa(w.Concurrency), strconv.Itoa(w.Room), dash(strings.Join(plugins, "; "))})
	}
	return printTable(cmd.OutOrStdout(), rows)
}
