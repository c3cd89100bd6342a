package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/plugin/dispatch"
)

// shownResult is a result in JSON, as text as well where it is text.
type shownResult struct {
	dispatch.Result
	Text string `json:"text,omitempty"`
}

func textual(r dispatch.Result) shownResult {
	s := shownResult{Result: r}
	if utf8.Valid(r.Payload) {
		s.Text = string(r.Payload)
	}
	return s
}

// printer prints results as text.
type printer struct {
	w   io.Writer
	raw bool // byte by byte
}

// print writes a result, which ends with a line's end.
func (p printer) print(r dispatch.Result) error {
	if p.raw {
		_, err := p.w.Write(r.Payload)
		return err
	}
	for line := range strings.Lines(string(r.Payload)) {
		if _, err := fmt.Fprintln(p.w, printable(strings.TrimRight(line, "\r\n"))); err != nil {
			return err
		}
	}
	return nil
}

// finishedTask is a task that was waited for, in JSON.
type finishedTask struct {
	Task    dispatch.Info `json:"task"`
	Results []shownResult `json:"results"`
}

// wait prints the results of a task as they come and its progress on standard
// error, and returns nil if it has succeeded.
func (q *queue) wait(cmd *cobra.Command, id string, p printer) error {
	all := finishedTask{Results: []shownResult{}}
	deliver := p.print
	if q.flags.output.json() {
		deliver = func(r dispatch.Result) error {
			all.Results = append(all.Results, textual(r))
			return nil
		}
	}
	info, err := q.follow(cmd, id, 0, deliver)
	if err != nil {
		return err
	}
	if all.Task = info; q.flags.output.json() {
		if err := printJSON(cmd.OutOrStdout(), all); err != nil {
			return err
		}
	}
	return verdict(info)
}

// verdict is nil of a task that has succeeded.
func verdict(info dispatch.Info) error {
	if info.State == dispatch.Succeeded {
		return nil
	}
	text := fmt.Sprintf("task %s is %s", info.ID, info.State)
	if why := whyOf(info); why != "" {
		text += ": " + why
	}
	return errors.New(text)
}

// whyOf says why a task is where it is.
func whyOf(info dispatch.Info) string {
	switch {
	case info.State == dispatch.Queued && info.Waiting != "":
		return info.Waiting
	case info.State == dispatch.Cancelled && info.CancelledBy != "":
		return "by " + info.CancelledBy
	case info.Runs != nil && info.Runs.Total > 0 && info.State.Finished():
		return fmt.Sprintf("%d of %d succeeded; agentd task list --parent %s", info.Runs.Succeeded, info.Runs.Total, info.ID)
	}
	return info.Error
}

// follow delivers results until the task has ended and tells its progress.
func (q *queue) follow(cmd *cobra.Command, id string, after int64, deliver func(dispatch.Result) error) (dispatch.Info, error) {
	if _, err := q.get(cmd.Context(), id); err != nil { // says soon that etcd does not answer
		return dispatch.Info{}, err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	var told sync.WaitGroup
	told.Go(func() { q.tell(ctx, cmd.ErrOrStderr(), id) })
	info, err := q.Follow(ctx, id, after, deliver)
	cancel()
	told.Wait()
	if cmd.Context().Err() != nil {
		return info, fmt.Errorf("no longer waiting: %w; the task goes on: agentd task show %s", cmd.Context().Err(), id)
	}
	if err == nil {
		say(cmd.ErrOrStderr(), "%s", progressOf(info))
	}
	return info, err
}

// tellEvery is how often a task is looked at for its progress.
const tellEvery = 500 * time.Millisecond

// tell says what becomes of a task until ctx ends.
func (q *queue) tell(ctx context.Context, w io.Writer, id string) {
	look := time.NewTicker(tellEvery)
	defer look.Stop()
	last := ""
	for {
		// What goes wrong is told by what is waited for.
		if info, err := q.get(ctx, id); err == nil && !info.State.Finished() {
			if now := progressOf(info); now != last {
				last = now
				say(w, "%s", now)
			}
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

// progressOf is one line about a task.
func progressOf(info dispatch.Info) string {
	text := placeOf(info)
	if why := whyOf(info); why != "" {
		text += ": " + why
	}
	return oneLine(text)
}

// placeOf says how far a task is and where.
func placeOf(info dispatch.Info) string {
	text := string(info.State)
	if info.Agent != "" && info.State != dispatch.Queued {
		text += " on " + info.Agent
	}
	if info.Attempt > 1 {
		text += fmt.Sprintf(", attempt %d", info.Attempt)
	}
	return text
}
