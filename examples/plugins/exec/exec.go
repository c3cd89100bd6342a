package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/perennial-go/perennial/plugin/sdk"
)

const (
	capability = "exec"
	// mostWaiting bounds the tasks that wait for others to end.
	mostWaiting = 256
)

var errTimeout = errors.New("it ran too long")

// executor implements sdk.Plugin.
type executor struct {
	commands map[string]*command
	places   chan struct{}
	waiting  atomic.Int32
}

// Start reads the manifest's settings. What it refuses is not run later either.
func (e *executor) Start(_ context.Context, data []byte) error {
	if err := supported(); err != nil {
		return err
	}
	concurrency, commands, err := readSettings(data)
	if err != nil {
		return err
	}
	e.commands, e.places = commands, make(chan struct{}, concurrency)
	return nil
}

// Execute runs the command that the task's payload names.
func (e *executor) Execute(ctx context.Context, task sdk.Task, send func(sdk.Result) error) error {
	c, in, err := readRequest(task, e.commands)
	if err != nil {
		return sdk.Permanent(err)
	}
	if err := e.enter(ctx); err != nil {
		return err
	}
	defer e.leave()
	if err := c.vet(); err != nil {
		return fmt.Errorf("command %s: %w", c.name, err)
	}
	in.env = append(surroundings(c.account), append(in.env,
		"PERENNIAL_TASK_ID="+task.ID,
		"PERENNIAL_TASK_ATTEMPT="+strconv.Itoa(task.Attempt),
		"PERENNIAL_TASK_KEY="+task.IdempotencyKey)...)
	return c.run(ctx, in, send)
}

// enter waits for a place.
func (e *executor) enter(ctx context.Context) error {
	if e.waiting.Add(1) > mostWaiting {
		e.waiting.Add(-1)
		return fmt.Errorf("%d tasks wait already for one of %d places; submit fewer at once or raise concurrency", mostWaiting, cap(e.places))
	}
	defer e.waiting.Add(-1)
	select {
	case e.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *executor) leave() { <-e.places }

// Health reports a command that could not be run.
func (e *executor) Health(context.Context) error {
	for name, c := range ordered(e.commands) {
		if err := c.vet(); err != nil {
			return fmt.Errorf("command %s: %w", name, err)
		}
	}
	return nil
}

// Stop has nothing to release: commands end with their tasks.
func (e *executor) Stop(context.Context) error { return nil }

// ending is the last result.
type ending struct {
	Source   string `json:"source"`
	Command  string `json:"command"`
	ExitCode *int   `json:"exit_code,omitempty"` // absent if a signal ended it, or it never ran
	Signal   string `json:"signal,omitempty"`
	TimedOut bool   `json:"timed_out,omitempty"`
	Error    string `json:"error,omitempty"` // why it could not be started, or what of it is left
	Duration int64  `json:"duration_ms"`
	Stdout   int64  `json:"stdout_bytes"`
	Stderr   int64  `json:"stderr_bytes"`
	Dropped  int64  `json:"dropped_bytes,omitempty"`
}

// run runs one invocation to its end, whatever happens.
func (c *command) run(ctx context.Context, in invocation, send func(sdk.Result) error) error {
	limited, cancel := context.WithTimeoutCause(ctx, c.timeout, errTimeout)
	defer cancel()
	begun := time.Now()
	k, err := startKeeper(order{Argv: in.argv, Env: in.env, Dir: c.dir, Account: c.account, GraceMillis: c.grace.Milliseconds()})
	if err != nil {
		return fmt.Errorf("command %s: %w", c.name, err)
	}
	stop := context.AfterFunc(limited, k.end)
	defer stop()
	out := &relay{command: c.name, limit: c.maxOutput, send: send}
	sendErr := out.relay(k, k.end)
	r := k.wait()
	e := ending{
		Source: capability, Command: c.name, ExitCode: r.ExitCode, Signal: r.Signal, Error: r.Error,
		TimedOut: r.Ended && errors.Is(context.Cause(limited), errTimeout),
		Duration: time.Since(begun).Milliseconds(), Stdout: out.bytes[0], Stderr: out.bytes[1], Dropped: out.dropped,
	}
	payload, err := json.Marshal(e)
	if err == nil && sendErr == nil {
		sendErr = send(sdk.Result{Payload: payload})
	}
	return c.outcome(ctx, e, out.lastWords(), errors.Join(err, sendErr))
}

// outcome says what an end means.
func (c *command) outcome(ctx context.Context, e ending, lastWords string, sendErr error) error {
	var how string
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case sendErr != nil:
		return sendErr
	case e.TimedOut:
		how = fmt.Sprintf("ran longer than %s", c.timeout)
	case e.Signal != "":
		how = "was ended by " + e.Signal
	case e.ExitCode == nil:
		// It did not run; that may be cured where it runs.
		return fmt.Errorf("command %s: %s", c.name, e.Error)
	case *e.ExitCode != 0:
		how = fmt.Sprintf("exited with code %d", *e.ExitCode)
	case e.Error != "":
		return fmt.Errorf("command %s: %s", c.name, e.Error)
	default:
		return nil
	}
	err := fmt.Errorf("command %s %s", c.name, how)
	if lastWords != "" {
		err = fmt.Errorf("%w: %s", err, lastWords)
	}
	if c.permanent {
		return sdk.Permanent(err)
	}
	return err
}
