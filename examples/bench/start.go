package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const startTarget = 1.25

// starts are the times of one server's successors.
type starts struct {
	total, loading, serving *series
	// What the successor has taken by its first answer; empty where the
	// system does not tell.
	processor, faults *series
	failed            int // requests of the poll
}

func newStarts(who string) *starts {
	return &starts{
		total:     &series{what: who + ": start to first answer", unit: "ms"},
		loading:   &series{what: who + ": of it until its own code runs", unit: "ms"},
		serving:   &series{what: who + ": of it until it answers", unit: "ms"},
		processor: &series{what: who + ": processor time by then", unit: "ms"},
		faults:    &series{what: who + ": page faults by then", unit: ""},
	}
}

// measureStart swaps idle servers in turns: the package upgrade alone,
// tableflip alone, agentd, and tableflip alone in an executable that links
// what agentd links.
func measureStart(ctx context.Context, b *bench) (figure, error) {
	agentd, light, err := b.startPair(ctx)
	if err != nil {
		return figure{}, err
	}
	alone, err := b.startLone(ctx, "--probation", shortProbation.String())
	if err != nil {
		return figure{}, err
	}
	weighted, err := b.startBare(ctx, heavy)
	if err != nil {
		return figure{}, err
	}
	servers := []swapper{alone, light, agentd, weighted}
	names := []string{"upgrade alone", "bare tableflip", "agentd", "bare tableflip, agentd's libraries linked"}
	var all []*starts
	for _, name := range names {
		all = append(all, newStarts(name))
	}
	// The first turn is not counted: it finds nothing in the page cache.
	for n := range 1 + b.times(30, 3) {
		for i, s := range servers {
			to := all[i]
			if n == 0 {
				to = newStarts("")
			}
			if err := measureOneStart(ctx, s, to); err != nil {
				return figure{}, err
			}
		}
	}
	f := startFigure(all[0], all[1], all[2], all[3])
	for i, s := range servers {
		err = errors.Join(err, s.close())
		f.Measures = append(f.Measures, all[i].measures()...)
		f.Notes = append(f.Notes, fmt.Sprintf("requests of the poll that failed, %s: %d", names[i], all[i].failed))
	}
	return f, err
}

func startFigure(alone, light, agentd, weighted *starts) figure {
	ratio := func(a, b *starts) float64 { return a.total.median() / b.total.median() }
	return figure{Verdicts: []verdict{
		within("upgrade alone / bare tableflip, median", "×", ratio(alone, light), startTarget),
		within("agentd / bare tableflip, median", "×", ratio(agentd, light), startTarget),
		{What: "agentd / bare tableflip with agentd's libraries linked, median", Unit: "×", Value: ratio(agentd, weighted)},
	}}
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
		w.costs(first.PID)
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

// costs reads what the process has taken so far.
func (w *starts) costs(pid int) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	stat := statFields(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil || len(threads) == 0 || len(stat) < 8 {
		return
	}
	var sum time.Duration
	for _, path := range threads {
		text, _, _ := strings.Cut(readText(path), " ")
		nanoseconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return // a kernel without these figures
		}
		sum += time.Duration(nanoseconds)
	}
	faults, err := strconv.Atoi(stat[7])
	if err != nil {
		return
	}
	w.processor.addTime(sum)
	w.faults.add(float64(faults))
}

func (w *starts) measures() []measure {
	all := measures(w.total, w.loading, w.serving)
	if len(w.processor.samples) > 0 {
		all = append(all, measures(w.processor, w.faults)...)
	}
	return all
}
