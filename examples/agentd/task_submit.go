package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/plugin/dispatch"
)

// taskSubmit is what agentd task submit was called with.
type taskSubmit struct {
	queue       queueFlags
	traces      traceFlags
	task        dispatch.Task
	policy      string
	notBefore   moment
	deadline    moment
	payloadFile string
	wait, raw   bool
}

const submitHelp = `submit puts a task into the queue and prints its id. The task is durable then: an
agent whose plugins can do it, and that the selector admits, will run it, also if
none is there now.

PAYLOAD is the input, of a form that the plugin defines; --payload-file reads it
from a file, --payload-file - from standard input. A time is RFC 3339, such as
2030-01-02T15:04:05Z, or a duration from now, such as 10m.

A run that fails is repeated as --retries says; a task that has failed for good is
on the dead-letter list: task list --state dead. With --idempotency-key the same
task submitted twice is one.

With --wait the command stays until the task has ended: it prints its results as
they come, and on standard error its progress. An interrupt ends the waiting, not
the task.

Exit codes: 0 means that the task is in the queue, and with --wait that it has
succeeded; 1 that it is not, or has not; 2 wrong usage.`

func newTaskSubmitCommand() *cobra.Command {
	var s taskSubmit
	cmd := &cobra.Command{
		Use:   "submit [PAYLOAD]",
		Short: "Put a task into the queue",
		Long:  submitHelp,
		Example: `  agentd task submit --etcd http://127.0.0.1:2379 --plugin exec --wait '{"command": "uptime"}'
  agentd task submit --etcd http://127.0.0.1:2379 --capability sample --policy all -l env=prod --deadline 10m
  agentd task submit --etcd http://127.0.0.1:2379 --plugin exec --plugin-version '>=1.2' --priority 10 --payload-file job.json`,
		Args: between(0, "PAYLOAD"),
		RunE: s.run,
	}
	s.queue.add(cmd)
	s.traces.add(cmd)
	s.add(cmd)
	return cmd
}

func (s *taskSubmit) add(cmd *cobra.Command) {
	f := cmd.Flags()
	t := &s.task
	f.StringVar(&t.Plugin, "plugin", "", "`name` of the plugin that is to do it")
	f.StringVar(&t.Capability, "capability", "", "`what` is asked of the plugin; may be left out with a --plugin that has one capability only")
	f.StringVar(&t.Version, "plugin-version", "", "`constraint` on the plugin's version, such as \">=1.2 <2\"")
	f.StringVarP(&t.Selector, "selector", "l", "", "`which` agents may do it, such as env=test,.group=web; default all")
	f.StringVar(&s.policy, "policy", string(dispatch.Any), "`which` of those gets it: any, all (each of them), round-robin, least-loaded or rendezvous (tasks of one --rendezvous-key go to one agent)")
	f.StringVar(&t.Key, "rendezvous-key", "", "`text` by which policy rendezvous chooses")
	f.IntVar(&t.Priority, "priority", 0, "tasks with a higher one are assigned first, but one in ten is the one that was submitted first; -1000 to 1000")
	f.Var(&s.notBefore, "not-before", "`time` or duration before which it is not begun")
	f.Var(&s.deadline, "deadline", "`time` or duration after which it is not begun, and cut off")
	f.DurationVar(&t.Timeout, "run-timeout", 0, "how long one run may take; default no limit")
	f.IntVar(&t.Retry.Max, "retries", dispatch.DefaultRetries, "how many runs may follow one that failed; negative = none")
	f.DurationVar(&t.Retry.MinBackoff, "retry-min", dispatch.DefaultMinBackoff, "pause before the first retry, which doubles")
	f.DurationVar(&t.Retry.MaxBackoff, "retry-max", dispatch.DefaultMaxBackoff, "longest pause before a retry")
	f.BoolVar(&t.Resumable, "resumable", false, "it goes on from its cursor wherever it is begun again: for tasks that never end by themselves")
	f.StringVar(&t.ID, "task-id", "", "`id` of the task; default a new one")
	f.StringVar(&t.IdempotencyKey, "idempotency-key", "", "`text` that makes the same task submitted twice one; the plugin gets it too")
	f.DurationVar(&t.ResultTTL, "result-ttl", 0, "how long the finished task is kept; default 24h, and 7 days if it failed for good")
	f.StringVar(&s.payloadFile, "payload-file", "", "`file` with the payload; - is standard input")
	f.StringVar(&t.SubmittedBy, "by", "", "who submits, for the record (default user@host)")
	f.BoolVar(&s.wait, "wait", false, "stay until the task has ended, and print its results")
	f.BoolVar(&s.raw, "raw", false, "with --wait: write results as they are, byte by byte")
	for _, flag := range []string{"task-id", "idempotency-key", "rendezvous-key", "payload-file", "wait"} {
		noVariable(cmd, flag)
	}
}

func (s *taskSubmit) run(cmd *cobra.Command, args []string) (err error) {
	if err := s.complete(args); err != nil {
		return err
	}
	exported, err := s.traces.open(cmd.Context(), slog.New(slog.DiscardHandler), s.task.SubmittedBy)
	if err != nil {
		return err
	}
	defer exported.close()
	s.queue.spans = exported.tracerProvider()
	traced, end := exported.command(cmd.Context(), cmd.CommandPath())
	defer func() { end(err) }()
	q, err := s.queue.open()
	if err != nil {
		return err
	}
	defer q.close()
	var done dispatch.Submitted
	err = q.ask(traced, func(ctx context.Context) (err error) {
		done, err = q.Submit(ctx, s.task)
		return err
	})
	if errors.Is(err, dispatch.ErrInvalid) {
		return usagef("%w", err)
	}
	if err != nil {
		return err
	}
	if done.Existing {
		say(cmd.ErrOrStderr(), "it has been submitted already, as %s", done.ID)
	}
	if done.Runs > 0 {
		say(cmd.ErrOrStderr(), "a task of its own for each agent that is to do it, %d in all: agentd task list --parent %s", done.Runs, done.ID)
	}
	if s.wait {
		return q.wait(cmd, done.ID, printer{w: cmd.OutOrStdout(), raw: s.raw})
	}
	if s.queue.output.json() {
		return printJSON(cmd.OutOrStdout(), done)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), done.ID)
	return err
}

// complete makes the task of flags and arguments.
func (s *taskSubmit) complete(args []string) error {
	t := &s.task
	switch {
	case t.Plugin == "" && t.Capability == "":
		return usagef("a task wants --plugin or --capability, such as --plugin exec; agentd task workers lists what there is")
	case len(args) > 0 && s.payloadFile != "":
		return usagef("PAYLOAD and --payload-file are two ways to give the input: give one")
	case len(args) > 0 && args[0] == "-":
		return usagef("--payload-file - reads the payload from standard input, found PAYLOAD -")
	case s.raw && (!s.wait || s.queue.output.json()):
		return usagef("--raw is for the results of --wait as text: leave it out without --wait and with -o json")
	}
	if len(args) > 0 {
		t.Payload = []byte(args[0])
	}
	if s.payloadFile != "" {
		var err error
		if t.Payload, err = readLimited(s.payloadFile, dispatch.MaxPayload); err != nil {
			return fmt.Errorf("--payload-file: %w", err)
		}
	}
	if t.Retry.Max == 0 {
		t.Retry.Max = -1 // 0 is the default there, and what was asked for here
	}
	now := time.Now()
	t.Policy, t.NotBefore, t.Deadline = dispatch.Policy(s.policy), s.notBefore.at(now), s.deadline.at(now)
	if t.SubmittedBy == "" {
		t.SubmittedBy = requester()
	}
	return nil
}
