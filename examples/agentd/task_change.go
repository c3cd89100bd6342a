package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/plugin/dispatch"
)

// taskChange is a command that changes tasks.
type taskChange struct {
	queue queueFlags
	done  string
	do    func(ctx context.Context, q *queue, id string) error
}

func (c *taskChange) command(use, short, long, example string) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example,
		Args: takesSome("ID"),
		RunE: func(cmd *cobra.Command, ids []string) error {
			q, err := c.queue.open()
			if err != nil {
				return err
			}
			defer q.close()
			return q.each(cmd, ids, c.done, func(ctx context.Context, id string) error { return c.do(ctx, q, id) })
		},
	}
	c.queue.add(cmd)
	return cmd
}

// printTasks prints tasks as they stand, without those that failed.
func (q *queue) printTasks(cmd *cobra.Command, ids, failed []string) error {
	all := []dispatch.Info{}
	for _, id := range ids {
		if slices.Contains(failed, id) {
			continue
		}
		info, err := q.get(cmd.Context(), id)
		if err != nil {
			return err
		}
		all = append(all, info)
	}
	return printJSON(cmd.OutOrStdout(), all)
}

func newTaskCancelCommand() *cobra.Command {
	var by string
	c := &taskChange{done: "will be cancelled"}
	c.do = func(ctx context.Context, q *queue, id string) error {
		if by == "" {
			by = requester()
		}
		return q.Cancel(ctx, id, by)
	}
	cmd := c.command("cancel ID...", "Cancel tasks", `cancel ends tasks: at once where they wait, else as soon as their agent hears of
it, which cuts them off. Of a task for all agents it cancels every run. One that
has ended is left as it is, which is a failure.`,
		"  agentd task cancel --etcd http://127.0.0.1:2379 01jx2m")
	cmd.Flags().StringVar(&by, "by", "", "who asks, for the record (default user@host)")
	return cmd
}

func newTaskRetryCommand() *cobra.Command {
	c := &taskChange{done: "is in the queue again"}
	c.do = func(ctx context.Context, q *queue, id string) error { return q.Retry(ctx, id) }
	return c.command("retry ID...", "Put tasks that failed for good, or were cancelled, back into the queue",
		`retry puts tasks of the dead-letter list, and such as were cancelled, back into
the queue, with all their tries. They go on from their last cursor. Of a task for
all agents, retry its runs: task list --parent ID.`,
		"  agentd task retry --etcd http://127.0.0.1:2379 01jx2m")
}

func newTaskForgetCommand() *cobra.Command {
	c := &taskChange{done: "is forgotten"}
	c.do = func(ctx context.Context, q *queue, id string) error { return q.Forget(ctx, id) }
	return c.command("forget ID...", "Delete tasks that have ended, with their results",
		`forget has tasks that have ended deleted, with their results, before their time.
One that has not ended is left as it is, which is a failure.`,
		"  agentd task forget --etcd http://127.0.0.1:2379 01jx2m")
}
