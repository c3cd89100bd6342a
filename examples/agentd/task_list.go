package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/plugin/dispatch"
)

// taskList is what agentd task list was called with.
type taskList struct {
	queue  queueFlags
	filter dispatch.Filter
	states []string
}

// taskStates are those that a list is filtered by.
func taskStates() []dispatch.State {
	return []dispatch.State{
		dispatch.Queued, dispatch.Assigned, dispatch.Running, dispatch.Spread,
		dispatch.Succeeded, dispatch.Dead, dispatch.Cancelled, dispatch.Expired,
	}
}

func newTaskListCommand() *cobra.Command {
	var l taskList
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List tasks; --state dead is the dead-letter list",
		Long: `list prints tasks in the order of their ids, which is that of their submission.
The last column says why a task waits, or what its last failure was. -o json has
all that is known but the payloads.`,
		Example: `  agentd task list --etcd http://127.0.0.1:2379
  agentd task list --etcd http://127.0.0.1:2379 --state dead,expired
  agentd task list --etcd http://127.0.0.1:2379 --agent a1 --state running -o json`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error { return l.run(cmd) },
	}
	l.queue.add(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&l.states, "state", nil, "only tasks in one of these `states`: queued, assigned, running, spread (for all agents), succeeded, dead, cancelled or expired")
	f.StringVar(&l.filter.Agent, "agent", "", "only those that the agent with this `id` has, or had last")
	f.StringVar(&l.filter.Plugin, "plugin", "", "only those that were submitted for the plugin of this `name`")
	f.StringVar(&l.filter.Capability, "capability", "", "only those that were submitted for `this`")
	f.StringVar(&l.filter.Parent, "parent", "", "only the runs of this task for all agents, by its `id`")
	f.StringVar(&l.filter.SubmittedBy, "by", "", "only those that were submitted by `whom`")
	f.StringVar(&l.filter.After, "after", "", "only those after this `id`: the last of the page before")
	f.IntVar(&l.filter.Limit, "limit", 1000, "at most this `number` of tasks; -1 is all")
	for _, flag := range []string{"state", "agent", "by"} {
		noVariable(cmd, flag)
	}
	return cmd
}

func (l *taskList) run(cmd *cobra.Command) error {
	if l.filter.Limit == 0 || l.filter.Limit < -1 {
		return usagef("--limit: want a number, or -1 for all, found %d", l.filter.Limit)
	}
	for _, s := range l.states {
		state, err := taskState(s)
		if err != nil {
			return err
		}
		l.filter.States = append(l.filter.States, state)
	}
	q, err := l.queue.open()
	if err != nil {
		return err
	}
	defer q.close()
	all, more, err := q.list(cmd, l.filter)
	if err != nil {
		return err
	}
	if l.queue.output.json() {
		err = printJSON(cmd.OutOrStdout(), all)
	} else {
		err = printTasks(cmd.OutOrStdout(), all, time.Now())
	}
	if more {
		say(cmd.ErrOrStderr(), "there may be more than the %d of --limit: --after %s goes on", l.filter.Limit, all[len(all)-1].ID)
	}
	return err
}

func taskState(s string) (dispatch.State, error) {
	var names []string
	for _, state := range taskStates() {
		if s == string(state) {
			return state, nil
		}
		names = append(names, string(state))
	}
	return "", usagef("--state: want one of %s, found %q", strings.Join(names, ", "), s)
}

// list reads page by page, each within the timeout, and tells of its progress.
func (q *queue) list(cmd *cobra.Command, f dispatch.Filter) (all []dispatch.Info, more bool, err error) {
	const page = 1000
	all = []dispatch.Info{}
	most, told := f.Limit, time.Now()
	for {
		f.Limit = page
		if most > 0 {
			f.Limit = min(page, most-len(all))
		}
		var part []dispatch.Info
		err := q.ask(cmd.Context(), func(ctx context.Context) (err error) {
			part, err = q.List(ctx, f)
			return err
		})
		if err != nil {
			return all, false, err
		}
		all = append(all, part...)
		if len(part) < f.Limit {
			return all, false, nil
		}
		if len(all) == most {
			return all, true, nil
		}
		f.After = part[len(part)-1].ID
		if time.Since(told) > time.Second {
			told = time.Now()
			say(cmd.ErrOrStderr(), "%d tasks so far", len(all))
		}
	}
}

func printTasks(w io.Writer, all []dispatch.Info, now time.Time) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "there are no such tasks")
		return err
	}
	rows := [][]string{{"TASK", "STATE", "FOR", "WHAT", "AGENT", "TRY", "PRIORITY", "AGE", "NOTES"}}
	for _, t := range all {
		rows = append(rows, []string{
			t.ID, string(t.State), age(now, t.Since), whatOf(t.Task), dash(t.Agent), strconv.Itoa(t.Attempt),
			strconv.Itoa(t.Priority), age(now, t.Submitted), dash(whyOf(t)),
		})
	}
	return printTable(w, rows)
}

// whatOf is what a task asks for.
func whatOf(t dispatch.Task) string {
	text := t.Plugin
	if t.Capability != "" {
		text = strings.TrimPrefix(text+"/"+t.Capability, "/")
	}
	return text
}
