package main

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
)

const startTarget = 1.5

// starts are the times of one server's successors.
type starts struct {
	total, loading, serving *series
	failed                  int // requests of the poll
}

func newStarts(who string) *starts {
	return &starts{
		total:   &series{what: who + ": start to first answer", unit: "ms"},
		loading: &series{what: who + ": of it until its own code runs", unit: "ms"},
		serving: &series{what: who + ": of it until it answers", unit: "ms"},
	}
}

// measureStart swaps two idle servers in turns.
func measureStart(ctx context.Context, b *bench) (figure, error) {
	ours, theirs, err := b.startPair(ctx)
	if err != nil {
		return figure{}, err
	}
	a, t := newStarts("agentd"), newStarts("bare tableflip")
	// One of each is not counted: it finds nothing in the page cache.
	for n := range b.times(31, 4) {
		to := [2]*starts{a, t}
		if n == 0 {
			to = [2]*starts{newStarts(""), newStarts("")}
		}
		if err := errors.Join(measureOneStart(ctx, ours, to[0]), measureOneStart(ctx, theirs, to[1])); err != nil {
			return figure{}, err
		}
	}
	f := figure{
		Measures: measures(a.total, t.total, a.loading, t.loading, a.serving, t.serving),
		Verdicts: []verdict{within("agentd / bare tableflip, median", "×", a.total.median()/t.total.median(), startTarget)},
		Notes:    []string{fmt.Sprintf("requests of the poll that failed: agentd %d, bare tableflip %d", a.failed, t.failed)},
	}
	return f, errors.Join(ours.close(), theirs.stop())
}

func measureOneStart(ctx context.Context, s swapper, times *starts) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	old, err := whoAnswers(ctx, s.base().url)
	if err != nil {
		return err
	}
	offset := int64(len(s.base().written(0)))
	var first answer
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, startLimit)
		defer cancel()
		var failed int
		first, failed, err = firstAnswer(ctx, s.base().url, old.PID)
		times.failed += failed
		return err
	})
	both.Go(func() error { return replaced(ctx, s, old.PID) })
	if err := both.Wait(); err != nil {
		return fmt.Errorf("swap: %w; the log: %s", err, s.base().written(offset))
	}
	began, err := s.base().startedSuccessor(offset)
	if err != nil {
		return err
	}
	times.total.addTime(first.at.Sub(began))
	times.loading.addTime(first.Started.Sub(began))
	times.serving.addTime(first.at.Sub(first.Started))
	return nil
}
