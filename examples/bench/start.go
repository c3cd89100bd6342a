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

// measureStart swaps idle servers in turns: agentd, tableflip alone, and
// tableflip alone in an executable that links what agentd links.
func measureStart(ctx context.Context, b *bench) (figure, error) {
	ours, light, err := b.startPair(ctx)
	if err != nil {
		return figure{}, err
	}
	weighted, err := b.startBare(ctx, heavy)
	if err != nil {
		return figure{}, err
	}
	a, t, w := newStarts("agentd"), newStarts("bare tableflip"), newStarts("bare tableflip, agentd's libraries linked")
	// The first turn is not counted: it finds nothing in the page cache.
	for n := range 1 + b.times(30, 3) {
		to := [3]*starts{a, t, w}
		if n == 0 {
			to = [3]*starts{newStarts(""), newStarts(""), newStarts("")}
		}
		for i, s := range [3]swapper{ours, light, weighted} {
			if err := measureOneStart(ctx, s, to[i]); err != nil {
				return figure{}, err
			}
		}
	}
	f := figure{
		Measures: measures(a.total, t.total, w.total, a.loading, t.loading, w.loading, a.serving, t.serving, w.serving),
		Verdicts: []verdict{
			within("agentd / bare tableflip, median", "×", a.total.median()/t.total.median(), startTarget),
			{What: "agentd / bare tableflip with agentd's libraries linked, median", Unit: "×", Value: a.total.median() / w.total.median()},
		},
		Notes: []string{fmt.Sprintf("requests of the poll that failed: agentd %d, bare tableflip %d, with libraries %d", a.failed, t.failed, w.failed)},
	}
	return f, errors.Join(ours.close(), light.stop(), weighted.stop())
}

// measureOneStart has s replaced once and polls meanwhile.
func measureOneStart(ctx context.Context, s swapper, times *starts) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	old, err := whoAnswers(ctx, s.base().url)
	if err != nil {
		return err
	}
	return times.observe(ctx, s, old.PID)
}

// observe has s replace its process, whose pid is old, and measures how long
// the successor takes until its first answer.
func (w *starts) observe(ctx context.Context, s swapper, old int) error {
	offset := int64(len(s.base().written(0)))
	var first answer
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, startLimit)
		defer cancel()
		var failed int
		first, failed, err = firstAnswer(ctx, s.base().url, old)
		w.failed += failed
		return err
	})
	both.Go(func() error { return replaced(ctx, s, old) })
	if err := both.Wait(); err != nil {
		return fmt.Errorf("swap: %w; the log: %s", err, s.base().written(offset))
	}
	began, err := s.base().startedSuccessor(offset)
	if err != nil {
		return err
	}
	w.total.addTime(first.at.Sub(began))
	w.loading.addTime(first.Started.Sub(began))
	w.serving.addTime(first.at.Sub(first.Started))
	return nil
}
