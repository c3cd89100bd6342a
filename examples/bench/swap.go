package main

import (
	"context"
	"errors"
	"fmt"
)

// aroundSwap is how many requests are answered before and after each swap.
const aroundSwap = 500

// swaps is what clients of one server saw.
type swaps struct {
	who                         string
	requests, failures, refused *series
	longestGet, longestPost     *series
	starts                      *starts
	ledger                      ledger
	first                       string
}

func newSwaps(who string) *swaps {
	return &swaps{
		who:         who,
		requests:    &series{what: who + ": requests a swap", unit: "requests"},
		failures:    &series{what: who + ": failed of them", unit: "requests"},
		refused:     &series{what: who + ": connections refused", unit: "requests"},
		longestGet:  &series{what: who + ": longest GET", unit: "ms"},
		longestPost: &series{what: who + ": longest POST", unit: "ms"},
		starts:      newStarts(who),
	}
}

// measureSwap swaps two servers in turns, each under a load of its own that
// pauses while the other has its turn.
func measureSwap(ctx context.Context, b *bench) (figure, error) {
	ours, theirs, err := b.startPair(ctx)
	if err != nil {
		return figure{}, err
	}
	a, t := newSwaps("agentd"), newSwaps("bare tableflip")
	for range b.times(25, 2) {
		if err := errors.Join(a.one(ctx, ours), t.one(ctx, theirs)); err != nil {
			return figure{}, err
		}
	}
	lost, err := a.ledger.lost(ours.spool)
	if err != nil {
		return figure{}, err
	}
	f := figure{Verdicts: []verdict{
		within("agentd, failed requests", "", a.failures.sum(), 0),
		within("agentd, acknowledged records lost", "", float64(lost), 0),
		{What: "bare tableflip, failed requests", Value: t.failures.sum()},
		{What: "agentd / bare tableflip, start to first answer under load, median", Unit: "×", Value: a.starts.total.median() / t.starts.total.median()},
	}}
	for _, s := range []*swaps{a, t} {
		f.Measures = append(f.Measures, s.requests.count(), s.failures.count(), s.refused.count(), s.longestGet.measure(), s.longestPost.measure(), s.starts.total.measure())
		if s.first != "" {
			f.Notes = append(f.Notes, fmt.Sprintf("%s, the first failure: %s", s.who, s.first))
		}
	}
	return f, errors.Join(ours.close(), theirs.stop())
}

func (w *swaps) one(ctx context.Context, s swapper) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	old, err := whoAnswers(ctx, s.base().url)
	if err != nil {
		return err
	}
	l := startLoad(ctx, s.base().url, 0, &w.ledger)
	defer l.stop()
	err = l.await(ctx, aroundSwap)
	if err == nil {
		err = w.starts.observe(ctx, s, old.PID)
	}
	if err == nil {
		err = l.await(ctx, aroundSwap)
	}
	if err != nil {
		return err
	}
	l.stop()
	w.requests.add(float64(l.requests.Load()))
	w.failures.add(float64(l.failures))
	w.refused.add(float64(l.refused))
	w.longestGet.addTime(l.longest(false))
	w.longestPost.addTime(l.longest(true))
	if w.first == "" {
		w.first = l.first
	}
	return nil
}
