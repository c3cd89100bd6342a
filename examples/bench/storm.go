package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perennial-go/perennial/examples/internal/sleep"
)

const (
	stormSwaps    = 49
	stormTime     = 20 * time.Second
	stormInterval = 400 * time.Millisecond
	// With the default tail of 300 ms there would be no time for a probation:
	// tableflip begins no swap before the process of the one before has gone.
	stormTail      = "150ms"
	stormProbation = "100ms"
	stormReports   = "100ms"
)

// storm is what clients of one server saw of many swaps.
type storm struct {
	who      string
	ledger   ledger
	whole    *series // order until the next may be asked for
	answer   *series // order until the successor's first answer
	requests int64
	failures int
	refused  int
	lost     int
	undone   int // swaps that were rolled back
	took     time.Duration
	first    string
}

// measureStorm swaps the minimal server and then tableflip, each on the same
// schedule under the same load.
func measureStorm(ctx context.Context, b *bench) (figure, error) {
	alone, err := b.startLone(ctx, "--probation", stormProbation, "--health-every", stormReports, "--tail", stormTail)
	if err != nil {
		return figure{}, err
	}
	light, err := b.startBare(ctx, "")
	if err != nil {
		return figure{}, err
	}
	n := b.times(stormSwaps, 5)
	b.say("storm: %d releases are prepared", n)
	for range n {
		if err := alone.prepare(ctx); err != nil {
			return figure{}, err
		}
	}
	ours, theirs := newStorm("upgrade alone"), newStorm("bare tableflip")
	offset := int64(len(alone.written(0)))
	if err := errors.Join(ours.run(ctx, alone, n), theirs.run(ctx, light, n)); err != nil {
		return figure{}, err
	}
	f := figure{Verdicts: []verdict{
		within("upgrade alone, failed requests", "", float64(ours.failures), 0),
		within("upgrade alone, connections refused", "", float64(ours.refused), 0),
		within("upgrade alone, swaps that were rolled back", "", float64(ours.undone), 0),
		within("upgrade alone, acknowledged records lost", "", float64(ours.lost), 0),
		within(fmt.Sprintf("upgrade alone, time of %d swaps", n), "s", ours.took.Seconds(), stormTime.Seconds()*float64(n)/stormSwaps),
		{What: "bare tableflip, failed requests", Value: float64(theirs.failures)},
		{What: "bare tableflip, acknowledged records lost", Value: float64(theirs.lost)},
	}}
	for _, s := range []*storm{ours, theirs} {
		f.Measures = append(f.Measures, measures(s.whole, s.answer)...)
		f.Notes = append(f.Notes, fmt.Sprintf("%s: %d swaps in %.1f s, %d requests, %d records acknowledged and %d of them lost", s.who, n, s.took.Seconds(), s.requests, len(s.ledger.acked), s.lost))
		if s.first != "" {
			f.Notes = append(f.Notes, s.who+", the first failure: "+s.first)
		}
	}
	f.Measures = append(f.Measures, measures(phases(alone.written(offset))...)...)
	f.Notes = append(f.Notes, fmt.Sprintf("a swap every %v, or at once where the one before was not over; upgrade alone: probation %s, a report every %s, tail of the drain %s", stormInterval, stormProbation, stormReports, stormTail))
	return f, errors.Join(alone.close(), light.close())
}

func newStorm(who string) *storm {
	return &storm{
		who:    who,
		whole:  &series{what: who + ": order until the next may follow", unit: "ms"},
		answer: &series{what: who + ": of it until the successor's first answer", unit: "ms"},
	}
}

func (w *storm) run(ctx context.Context, s swapper, n int) error {
	l := startLoad(ctx, s.base().url, 0, &w.ledger)
	defer l.stop()
	now, err := whoAnswers(ctx, s.base().url)
	if err == nil {
		err = l.await(ctx, aroundSwap)
	}
	if err != nil {
		return err
	}
	old, known := now.PID, map[int]bool{}
	began := time.Now()
	for i := range n {
		if err := sleep.For(ctx, time.Until(began.Add(time.Duration(i)*stormInterval))); err != nil {
			return err
		}
		known[now.PID], old = true, now.PID
		if now.PID, err = w.one(ctx, s, l, known, old); err != nil {
			return fmt.Errorf("%s, swap %d: %w", w.who, i+1, err)
		}
	}
	if old != now.PID {
		err = gone(ctx, s, old)
	}
	if err != nil {
		return err
	}
	w.took = time.Since(began)
	if err := l.await(ctx, aroundSwap); err != nil {
		return err
	}
	l.stop()
	w.requests, w.failures, w.refused = l.requests.Load(), l.failures, l.refused
	w.first = cmp.Or(w.first, l.first)
	w.lost, err = w.ledger.lost(s.base().spool)
	return err
}

// one has the process old replaced and returns the pid of its successor.
func (w *storm) one(ctx context.Context, s swapper, l *load, known map[int]bool, old int) (int, error) {
	ordered := time.Now()
	if err := s.swap(ctx, old); err != nil {
		return 0, err
	}
	err := s.settled(ctx, old)
	w.whole.addTime(time.Since(ordered))
	if errors.Is(err, errNotCommitted) {
		// A machine that is too busy for the reports of a short probation.
		w.undone++
		if w.first == "" {
			w.first = err.Error()
		}
		l.seen(known)
		return old, nil
	}
	if err != nil {
		return 0, err
	}
	pid, first, err := l.successor(ctx, known)
	w.answer.addTime(first.Sub(ordered))
	return pid, err
}
