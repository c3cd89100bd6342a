package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel/trace"

	"github.com/perennial-go/perennial/plugin/dispatch"
)

func newTaskCommand() *cobra.Command {
	return newGroup("task", "Give the plugins of a fleet work, and see what becomes of it",
		"  agentd task submit --etcd http://127.0.0.1:2379 --plugin exec --wait '{\"command\": \"uptime\"}'\n  agentd task list --etcd http://127.0.0.1:2379",
		newTaskSubmitCommand(),
		newTaskListCommand(),
		newTaskShowCommand(),
		newTaskResultsCommand(),
		newTaskCancelCommand(),
		newTaskRetryCommand(),
		newTaskForgetCommand(),
		newTaskWorkersCommand(),
		newTaskDispatcherCommand(),
	)
}

// queueFlags are common to the commands about the queue of tasks.
type queueFlags struct {
	etcd   etcdFlags
	output *format
	spans  trace.TracerProvider // of what is submitted; nil for none
}

func (q *queueFlags) add(cmd *cobra.Command) {
	q.etcd.addTimeout(cmd)
	q.output = formatFlag(cmd)
}

// queue is the queue of the fleet, to be closed.
type queue struct {
	*dispatch.Queue
	flags  *queueFlags
	client *clientv3.Client
}

func (q *queueFlags) open() (*queue, error) {
	client, err := q.etcd.client()
	if err != nil {
		return nil, err
	}
	tasks, err := dispatch.NewQueue(dispatch.QueueConfig{Client: client, Root: q.etcd.root, TracerProvider: q.spans})
	if err != nil {
		_ = client.Close()
		return nil, err
	}
	return &queue{tasks, q, client}, nil
}

func (q *queue) close() { _ = q.client.Close() }

// ask is etcdFlags.ask.
func (q *queue) ask(ctx context.Context, f func(context.Context) error) error {
	return q.flags.etcd.ask(ctx, f)
}

// get returns a task within the timeout.
func (q *queue) get(ctx context.Context, id string) (info dispatch.Info, err error) {
	err = q.ask(ctx, func(ctx context.Context) (err error) {
		info, err = q.Get(ctx, id)
		return err
	})
	return info, err
}

// each calls f for every id, and goes on where one fails.
func (q *queue) each(cmd *cobra.Command, ids []string, done string, f func(ctx context.Context, id string) error) error {
	var failed []string
	var first error
	for _, id := range ids {
		if err := q.ask(cmd.Context(), func(ctx context.Context) error { return f(ctx, id) }); err != nil {
			if !strings.Contains(err.Error(), id) {
				err = fmt.Errorf("%s: %w", id, err)
			}
			failed = append(failed, id)
			if first == nil {
				first = err
			} else {
				say(cmd.ErrOrStderr(), "%s", oneLine(err.Error()))
			}
			continue
		}
		if q.flags.output.json() {
			continue
		}
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), id, done); err != nil {
			return err
		}
	}
	if q.flags.output.json() {
		if err := q.printTasks(cmd, ids, failed); err != nil {
			return err
		}
	}
	return first
}
