package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// rolloutWatch shows a rollout as it changes.
type rolloutWatch struct {
	fleet string
	// show prints a state of it, pause is the least time between two.
	show  func(s *rolloutStatus) error
	pause time.Duration
	// beat is how often it is shown although nothing has changed; 0 = never.
	beat time.Duration
	// cause is fleetOperator.cause.
	cause func(context.Context, *rollout.Plan) (string, error)
	// ended says whether to stop.
	ended func(p *rollout.Plan) bool

	mu       sync.Mutex
	view     *rollout.View
	snapshot *rollout.Snapshot
	stale    error
	changed  chan struct{} // holds one
}

// set changes what is known.
func (w *rolloutWatch) set(change func()) {
	w.mu.Lock()
	change()
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// status is what is known now, once enough is.
func (w *rolloutWatch) status() (s rolloutStatus, enough bool, err error) {
	w.mu.Lock()
	view, snapshot, stale := w.view, w.snapshot, w.stale
	w.mu.Unlock()
	if view == nil || snapshot == nil && stale == nil {
		return s, false, nil
	}
	var members []*rollout.Member
	if snapshot != nil {
		members = snapshot.Members
	}
	s, err = newRolloutStatus(w.fleet, *view, members, stale)
	return s, true, err
}

// run watches until the rollout has ended, and returns how it stood last, which
// is nil if nothing was seen.
func (w *rolloutWatch) run(parent context.Context, op *rollout.Operator, fleet rollout.Fleet) (*rolloutStatus, error) {
	ctx, stop := context.WithCancelCause(parent)
	var watches sync.WaitGroup
	defer watches.Wait()
	defer stop(nil)
	watches.Go(func() {
		stop(op.Watch(ctx, func(v rollout.View) { w.set(func() { w.view = &v }) }))
	})
	watches.Go(func() {
		stop(fleet.Watch(ctx,
			func(s rollout.Snapshot) { w.set(func() { w.snapshot = &s }) },
			func(err error) { w.set(func() { w.stale = err }) }))
	})
	var beat <-chan time.Time
	if w.beat > 0 {
		t := time.NewTicker(w.beat)
		defer t.Stop()
		beat = t.C
	}
	var last *rolloutStatus
	for {
		select {
		case <-ctx.Done():
			return last, context.Cause(ctx)
		case <-w.changed:
		case <-beat:
		}
		s, enough, err := w.status()
		if err != nil {
			return last, err
		}
		if !enough {
			continue
		}
		w.explain(ctx, &s, last)
		last = &s
		if err := w.show(last); err != nil {
			return last, err
		}
		if s.Plan != nil && w.ended(s.Plan) {
			return last, nil
		}
		t := time.NewTimer(w.pause)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// explain asks for the cause, once for each instruction of a rollout. Without it
// the rest is shown all the same.
func (w *rolloutWatch) explain(ctx context.Context, s, last *rolloutStatus) {
	p := s.Plan
	if p == nil {
		return
	}
	if last != nil && last.Plan != nil && last.Cause != "" && last.Plan.ID == p.ID && last.Plan.Instruction == p.Instruction {
		s.Cause = last.Cause
		return
	}
	cause, err := w.cause(ctx, p)
	if s.Cause = cause; err != nil && ctx.Err() == nil {
		s.Stale = cmp.Or(s.Stale, err.Error())
	}
}

// screenPause is the least time between two drawings.
const screenPause = 100 * time.Millisecond

// showOn is how a watch shows what it sees on w.
func (w *rolloutWatch) showOn(out io.Writer, format *format) {
	w.pause = watchPause
	if format.json() {
		e := json.NewEncoder(printableJSON{out})
		w.show = func(s *rolloutStatus) error { return e.Encode(s) }
		return
	}
	if terminal := openScreen(out); terminal != nil {
		w.pause, w.beat = screenPause, time.Second
		w.show = func(s *rolloutStatus) error {
			return terminal.draw(func(width int) []string { return s.text(time.Now(), width) })
		}
		return
	}
	w.showLines(out)
}

// showLines prints a line when it is another one than before.
func (w *rolloutWatch) showLines(out io.Writer) {
	w.pause = watchPause
	before := ""
	w.show = func(s *rolloutStatus) error {
		line := fmt.Sprintf("fleet %s has no rollout", s.Fleet)
		if s.Plan != nil {
			line = s.model(time.Now()).Line()
		}
		if s.Stale != "" {
			line += "; what is shown may be old: " + s.Stale
		}
		if line != before {
			before = line
			say(out, "%s", oneLine(line))
		}
		return nil
	}
}

func (o *fleetOperator) newWatch() *rolloutWatch {
	return &rolloutWatch{fleet: o.flags.fleet, cause: o.cause, changed: make(chan struct{}, 1)}
}

// watch shows the fleet's rollout until it has ended, or was halted.
func (o *fleetOperator) watch(cmd *cobra.Command, wait time.Duration) error {
	if _, err := o.status(cmd.Context()); err != nil { // says soon that etcd does not answer
		return err
	}
	w := o.newWatch()
	w.ended = func(p *rollout.Plan) bool { return p.State.Over() || p.State == rollout.Halted }
	w.showOn(cmd.OutOrStdout(), o.flags.output)
	last, err := o.follow(cmd.Context(), w, wait)
	if cmd.Context().Err() != nil {
		err, last = nil, nil // it was interrupted
	}
	if err != nil || last == nil || last.Plan == nil {
		return err
	}
	return endOf(last.Plan, last.Cause, rollout.Completed)
}

// await follows the rollout p until it has ended or needs an operator, and
// returns nil if it has come to wanted.
func (o *fleetOperator) await(cmd *cobra.Command, p *rollout.Plan, wanted rollout.State, wait time.Duration) error {
	w := o.newWatch()
	w.ended = func(now *rollout.Plan) bool {
		if now.ID != p.ID || now.Seq < p.Seq {
			return now.ID != p.ID
		}
		return now.State.Over() || now.State == rollout.Paused || now.State == rollout.Halted
	}
	w.showLines(cmd.ErrOrStderr())
	last, err := o.follow(cmd.Context(), w, wait)
	if cmd.Context().Err() != nil {
		return fmt.Errorf("no longer waiting: %w; the rollout goes on: agentd rollout status", cmd.Context().Err())
	}
	if last != nil && last.Plan != nil && last.Plan.ID != p.ID && err == nil {
		return endedError{fmt.Errorf("want rollout %s %s, found it replaced by %s", p.ID, wanted, last.Plan.ID), exitAborted}
	}
	if o.flags.output.json() && last != nil {
		err = errors.Join(printJSON(cmd.OutOrStdout(), last), err)
	}
	if err != nil || last == nil || last.Plan == nil {
		return err
	}
	if err := endOf(last.Plan, last.Cause, wanted); err != nil {
		return err
	}
	if !o.flags.output.json() {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "rollout %s is %s\n", p.ID, last.Plan.State)
	}
	return err
}

// follow runs w for wait at most, 0 = for ever.
func (o *fleetOperator) follow(ctx context.Context, w *rolloutWatch, wait time.Duration) (*rolloutStatus, error) {
	limited := ctx
	if wait > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	last, err := w.run(limited, o.Operator, agent.RolloutFleet(o.directory, o.flags.fleet))
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		found, then := "nothing", "agentd rollout status"
		if last != nil && last.Plan != nil {
			found, then = last.model(time.Now()).Line(), "it goes on; agentd rollout status"
			if last.Plan.State == rollout.Paused {
				then = "agentd rollout resume goes on with it"
			}
		}
		err = undecidedError{fmt.Errorf("want the end of the rollout within %v, found %s: %s", wait, found, then)}
	}
	return last, err
}
