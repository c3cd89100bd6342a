package fleetsim_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perennial-go/perennial/examples/fleetsim"
	"github.com/perennial-go/perennial/upgrade/release"
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
	w.mu.Lock()
	strays := w.strays
	w.mu.Unlock()
	if w.mustStop() && !w.stood() && (len(strays) > 0 || final.State != rollout.Reverted) {
		bad("one canary of %d failed, and %v began all the same; the rollout is %s (%s)", w.canaries, strays, final.State, final.Why)
	}
	if w.mustComplete() && !w.stood() && final.State != rollout.Completed {
		bad("a good release is %s (%s)", final.State, final.Why)
	}
	history, err := fleetsim.ReadChronicle(ctx, w.client, w.root, fleetName, from)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	if err := history.Check(final.ID); err != nil {
		bad("history: %w", err)
	}
	if past, err := w.operator.History(ctx, rollout.HistoryOptions{Rollout: final.ID}); err != nil || len(past) != 1 || len(past[0].Records) != len(history.Steps) {
		bad("the history that is read has %d rollouts, %v; want 1 with %d records", len(past), err, len(history.Steps))
	}
	return errors.Join(append(errs, w.booked(ctx))...)
}

// booked waits until the books say what is so: who succeeded, by what they run.
func (w *world) booked(ctx context.Context) error {
	v := w.view()
	if v.Plan.State != rollout.Completed {
		return nil
	}
	runs := func(p release.Pin) (n int) {
		for _, a := range w.agents {
			if a.Runs() == p {
				n++
			}
		}
		return n
	}
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return w.until(limited, "the books are right", func() (bool, error) {
		b := w.view().Books
		if b == nil {
			return false, errors.New("there are none")
		}
		if f := b.Figures; f.Succeeded != runs(newer()) || f.Agents != len(w.agents) || f.UnderWay != 0 || f.Unavailable != 0 {
			return false, fmt.Errorf("%d of %d run the new release, the figures are %+v", runs(newer()), len(w.agents), f)
		}
		return true, nil
	})
}
