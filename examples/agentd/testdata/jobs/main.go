// Command jobs is a plugin for the tests of agentd: it does what a task's payload
// says.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/perennial-go/perennial/plugin/sdk"
)

var version = "0.0.0-dev"

// job is a task's payload.
type job struct {
	// Mark is a file that gets a line when the job begins.
	Mark string `json:"mark"`
	// Say are its results.
	Say []string `json:"say"`
	// Until is a file that must exist for the job to end.
	Until string `json:"until"`
	// Trace has the id of the span that the call is below be a result.
	Trace bool `json:"trace"`
	// Fail is how it fails, at last.
	Fail string `json:"fail"`
}

type jobs struct{}

func (jobs) Start(context.Context, []byte) error {
	fmt.Fprintln(os.Stderr, "jobs starts")
	return nil
}

func (jobs) Health(context.Context) error { return nil }
func (jobs) Stop(context.Context) error   { return nil }

func (jobs) Execute(ctx context.Context, task sdk.Task, send func(sdk.Result) error) error {
	var j job
	if err := json.Unmarshal(task.Payload, &j); err != nil {
		return sdk.Permanent(err)
	}
	fmt.Fprintln(os.Stderr, "job", task.ID, "begins")
	if j.Mark != "" {
		f, err := os.OpenFile(j.Mark, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = fmt.Fprintln(f, task.ID, task.Attempt, os.Getpid())
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	if j.Trace {
		j.Say = append(j.Say, trace.SpanContextFromContext(ctx).SpanID().String())
	}
	for _, text := range j.Say {
		if err := send(sdk.Result{Payload: []byte(text)}); err != nil {
			return err
		}
	}
	for j.Until != "" {
		if _, err := os.Stat(j.Until); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	if j.Fail != "" {
		return errors.New(j.Fail)
	}
	return nil
}

func main() {
	err := sdk.Serve(sdk.Config{Name: "jobs", Version: version, Capabilities: []string{"run"}}, jobs{})
	if err != nil && !errors.Is(err, sdk.ErrHostGone) {
		fmt.Fprintln(os.Stderr, "jobs:", err)
		os.Exit(1)
	}
}
