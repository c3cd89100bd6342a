package fleetsim_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/perennial-go/perennial/examples/fleetsim"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// steer is the operator's part: it resumes what has paused, and sends back what
// goes on pausing, until the rollout is over.
func (w *world) steer(ctx context.Context) error {
	by := rollout.Act{By: "sim", Reason: "it paused"}
	for paused := 0; ; {
		select {
		case <-ctx.Done():
			return w.until(ctx, "the rollout is over", func() (bool, error) { return false, nil })
		case <-w.changed:
		}
		p := w.view().Plan
		if p == nil || p.ID != w.plan().ID {
			continue
		}
		var err error
		switch {
		case p.State.Over():
			return nil
		case p.State == rollout.Paused || p.State == rollout.Halted:
			if paused++; paused <= 2 {
				_, err = w.operator.Resume(ctx, by)
			} else {
				_, err = w.operator.Revert(ctx, rollout.RevertOptions{Act: by})
			}
		}
		if err != nil && !errors.Is(err, rollout.ErrState) {
			return err
		}
	}
}

// calm waits until all faults are over, everybody is back, and all that are to
// run something run it.
func (w *world) calm(ctx context.Context) error {
	return w.until(ctx, "all is as the plan wants it", func() (bool, error) {
		err := w.settled()
		return err == nil, err
	})
}

// settled tells who does not run what it should.
func (w *world) settled() error {
	v := w.view()
	for _, a := range w.agents {
		report := a.Report()
		switch {
		case !a.Alive():
			return fmt.Errorf("%s is dead", a.ID())
		case a.UnderWay():
			return fmt.Errorf("%s is under way", a.ID())
		case v.Plan.State == rollout.Reverted && a.Runs() != older():
			return fmt.Errorf("%s is left on the bad release, and says %+v", a.ID(), report)
		case v.Plan.State == rollout.Completed && a.Runs() != newer() && !excused(report, v.Plan):
			return fmt.Errorf("%s runs %s, and says %+v", a.ID(), a.Runs(), report)
		}
	}
	return nil
}

// excused is true of an agent that tried and did not get there.
func excused(r *rollout.Report, p *rollout.Plan) bool {
	return r != nil && r.Request == p.Request() && (r.State == rollout.ReportFailed || r.State == rollout.ReportDone)
}

// judge returns what was not as it should be, once all is over.
func (w *world) judge(ctx context.Context, from int64) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, b := range w.ledger.Breaches() {
		bad("%s", b)
	}
	final := w.view().Plan
	history, err := fleetsim.ReadChronicle(ctx, w.client, w.root, fleetName, from)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	if strays := w.begunBeside(); w.mustStop() && (len(strays) > 0 || final.State != rollout.Reverted) && !w.unheard(history) {
		bad("one canary of %d failed, and %v began all the same; the rollout is %s: %s", w.canaries, strays, final.State, whys(history))
	}
	if w.mustComplete() && final.State != rollout.Completed && !w.slow(history) {
		bad("a good release is %s: %s\n%v", final.State, whys(history), history.Words)
	}
	if err := history.Check(final.ID); err != nil {
		bad("history: %w", err)
	}
	past, err1 := w.operator.History(ctx, rollout.HistoryOptions{Rollout: final.ID})
	later, err2 := fleetsim.ReadChronicle(ctx, w.client, w.root, fleetName, from) // who comes back late is let in still
	if err := errors.Join(err1, err2); err != nil || len(past) != 1 {
		bad("the history has %d rollouts, %v; want 1", len(past), err)
	} else if n := len(past[0].Records); n < len(history.Steps) || n > len(later.Steps) {
		bad("the history that is read has %d records; etcd had %d before, and %d after", n, len(history.Steps), len(later.Steps))
	}
	return errors.Join(append(errs, w.booked(ctx))...)
}

// whys are the reasons of all steps but moves of the mark.
func whys(history *fleetsim.Chronicle) string {
	var all []string
	for _, s := range history.Steps {
		if s.Record.Event != rollout.EventAdmitted {
			all = append(all, fmt.Sprintf("%s: %s", s.Record.Event, s.Record.Why))
		}
	}
	return strings.Join(all, "; ")
}

// unheard reports whether the machine, and no fault, has kept a canary that failed
// from saying so: its lease had really ended before. Nothing else excuses an agent
// that began after it.
func (w *world) unheard(history *fleetsim.Chronicle) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range history.Departures {
		told := d.Report != nil && d.Report.Request == w.last.Plan.ID+".1" && d.Report.State.Ended()
		if w.isBad(w.turns[d.ID]) && !told {
			w.excuses = append(w.excuses, fmt.Sprintf("%s left the registry at revision %d and had not told that it failed", d.ID, d.Revision))
		}
	}
	return len(w.excuses) > 0
}

// slow reports whether the machine, and no fault, has made an agent fail: its
// lease had really ended, what takes it milliseconds took a third of its deadline, or
// what takes anybody milliseconds a tenth.
func (w *world) slow(history *fleetsim.Chronicle) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range history.Departures {
		w.excuses = append(w.excuses, fmt.Sprintf("%s left the registry at revision %d", d.ID, d.Revision))
	}
	if l := w.machine.worst(w.began); l.took > machineSlow {
		w.excuses = append(w.excuses, fmt.Sprintf("%s took %v", l.what, l.took.Round(time.Millisecond)))
	}
	for _, a := range w.agents {
		if took := a.Slowest(); took > deadline/3 {
			w.excuses = append(w.excuses, fmt.Sprintf("%s took %v to change, or until etcd had what it said of it", a.ID(), took.Round(time.Millisecond)))
		}
	}
	return len(w.excuses) > 0
}

// begunBeside are the agents that are no canaries and began.
func (w *world) begunBeside() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.strays
}

// booked waits until the books say what is so.
func (w *world) booked(ctx context.Context) error {
	return w.until(ctx, "the books are right", func() (bool, error) {
		v := w.view()
		if v.Books == nil {
			return false, errors.New("there are none")
		}
		want, err := w.truth(v.Plan)
		if err != nil {
			return false, err
		}
		f := v.Books.Figures
		found := truth{agents: f.Agents, there: f.Succeeded, not: f.Failed + f.Silent + f.Held + f.Gone}
		if found != want || f.Waiting+f.UnderWay+f.Late+f.Unavailable != 0 || f.Admitted != want.there+want.not {
			return false, fmt.Errorf("it is so: %+v; the figures are %+v", want, f)
		}
		return true, nil
	})
}

// truth is what the hosts themselves are, to the instruction that is in force:
// how many there are, are where it wants them, and are not.
type truth struct{ agents, there, not int }

// truth takes no agent's word for what it runs.
func (w *world) truth(p *rollout.Plan) (truth, error) {
	now := truth{agents: len(w.agents)}
	for _, a := range w.agents {
		r := a.Report()
		reported := r != nil && r.Request == p.Request()
		switch {
		case p.State == rollout.Completed && a.Runs() == newer() && !a.Alerts():
			now.there++
		case p.State == rollout.Completed:
			now.not++
		case reported && r.State == rollout.ReportDone && a.Runs() == older():
			now.there++
		case reported:
			now.not++
		case a.Ran(newer()): // who never did has nothing to go back from
			return now, fmt.Errorf("%s had changed, and says nothing of the way back: %+v", a.ID(), r)
		}
	}
	return now, nil
}
