package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perennial-go/perennial/examples/internal/sleep"
)

const (
	latencyTarget = 1.25
	// With latencyPause of each client it is more the server that is measured
	// than the queue for the processor.
	latencyPause = 10 * time.Millisecond
	// aroundFirst is how far the second around a swap reaches on either side
	// of the successor's first answer.
	aroundFirst = 500 * time.Millisecond
	// latencyLead is the time before a swap and after it; a warm-up at the
	// beginning of the load is not counted.
	latencyLead   = 1500 * time.Millisecond
	latencyWarmUp = 500 * time.Millisecond
	// latencyReports has the commit fall into that second.
	latencyReports = "100ms"
)

// latencies are the times of one server's requests.
type latencies struct {
	who            string
	ledger         ledger
	steady, around *series
	failures       int
}

func newLatencies(who string) *latencies {
	return &latencies{
		who:    who,
		steady: &series{what: who + ": steady", unit: "ms"},
		around: &series{what: who + ": in the second around a swap", unit: "ms"},
	}
}

// measureLatency swaps servers in turns, each with steady time around its
// swap: first under clients that pause, then under clients that do not.
func measureLatency(ctx context.Context, b *bench) (figure, error) {
	var f figure
	alone, err := b.startLone(ctx, "--probation", shortProbation.String(), "--health-every", latencyReports)
	if err != nil {
		return f, err
	}
	agentd, light, err := b.startPair(ctx)
	if err != nil {
		return f, err
	}
	servers := []swapper{alone, agentd, light}
	for _, pause := range []time.Duration{latencyPause, 0} {
		how := "no pause"
		if pause > 0 {
			how = fmt.Sprintf("pause %v", pause)
		}
		all := []*latencies{newLatencies("upgrade alone, " + how), newLatencies("agentd, " + how), newLatencies("bare tableflip, " + how)}
		for range b.times(8, 1) {
			for i, s := range servers {
				if err := all[i].one(ctx, s, pause); err != nil {
					return f, err
				}
			}
		}
		for i, w := range all {
			f.Measures = append(f.Measures, w.steady.measure(), w.around.measure())
			ratio := verdict{What: w.who + ": p99 around a swap / steady", Unit: "×", Value: w.around.quantile(0.99) / w.steady.quantile(0.99)}
			if i < 2 {
				ratio = within(ratio.What, ratio.Unit, ratio.Value, latencyTarget)
			}
			f.Verdicts = append(f.Verdicts, ratio)
			f.Notes = append(f.Notes, fmt.Sprintf("%s: p99 steady %s ms, around a swap %s ms; failed requests %d",
				w.who, number(w.steady.quantile(0.99)), number(w.around.quantile(0.99)), w.failures))
		}
	}
	return f, errors.Join(alone.close(), agentd.close(), light.close())
}

func (w *latencies) one(ctx context.Context, s swapper, pause time.Duration) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	old, err := whoAnswers(ctx, s.base().url)
	if err != nil {
		return err
	}
	l := startLoad(ctx, s.base().url, pause, &w.ledger)
	defer l.stop()
	warm := time.Now().Add(latencyWarmUp)
	if err := sleep.For(ctx, latencyWarmUp+latencyLead); err != nil {
		return err
	}
	if err := replaced(ctx, s, old.PID); err != nil {
		return err
	}
	_, first, err := l.successor(ctx, map[int]bool{old.PID: true})
	if err == nil {
		err = sleep.For(ctx, time.Until(first.Add(aroundFirst+latencyLead)))
	}
	if err != nil {
		return err
	}
	l.stop()
	w.failures += l.failures
	l.each(func(r sample) {
		switch {
		case r.at.Before(warm):
		case r.at.Before(first.Add(aroundFirst)) && r.end().After(first.Add(-aroundFirst)):
			w.around.addTime(r.took)
		default:
			w.steady.addTime(r.took)
		}
	})
	return nil
}
