package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	rollbackTarget = 50.0 // ms
	// longProbation lasts until the successor is killed.
	longProbation = time.Minute
)

// measureRollback kills successors on probation, each of another version: one
// that has failed is quarantined.
func measureRollback(ctx context.Context, b *bench) (figure, error) {
	if _, err := openProcess(0); errors.Is(err, errors.ErrUnsupported) {
		return figure{Skipped: "the death of a process is seen through a pidfd, which this system has not"}, nil
	}
	alone, err := b.startLone(ctx, "--probation", longProbation.String())
	if err != nil {
		return figure{}, err
	}
	agentd, err := b.startSite(ctx, longProbation)
	if err != nil {
		return figure{}, err
	}
	series := []*series{
		{what: "upgrade alone: death of the successor until the incumbent answers", unit: "ms"},
		{what: "agentd: death of the successor until the incumbent answers", unit: "ms"},
	}
	for range b.times(25, 3) {
		for i, s := range []swapper{alone, agentd} {
			took, err := killSuccessor(ctx, s)
			if err != nil {
				return figure{}, fmt.Errorf("%s: %w", series[i].what, err)
			}
			series[i].addTime(took)
		}
	}
	return figure{
		Measures: measures(series...),
		Verdicts: []verdict{
			within("upgrade alone, median", "ms", series[0].median(), rollbackTarget),
			within("agentd, median", "ms", series[1].median(), rollbackTarget),
		},
		Notes: []string{"a client asks over a fresh connection from the moment on at which the pidfd of the successor tells its death; bare tableflip has no probation, and so nobody to roll back to"},
	}, errors.Join(alone.close(), agentd.close())
}

// killSuccessor has s replace its process, kills the successor once the
// incumbent has left all connections to it, and returns how long after its
// death the incumbent answers.
func killSuccessor(ctx context.Context, s swapper) (took time.Duration, err error) {
	if err := s.prepare(ctx); err != nil {
		return 0, err
	}
	old, err := whoAnswers(ctx, s.base().url)
	if err != nil {
		return 0, err
	}
	offset := int64(len(s.base().written(0)))
	entered := func(state string) error {
		return until(ctx, "an upgrade "+state, startLimit, func() bool {
			for _, e := range events(s.base().written(offset)) {
				if e.State == state {
					return true
				}
			}
			return false
		})
	}
	var both errgroup.Group
	both.Go(func() error {
		// That the upgrade fails is meant; how it ends is in the log.
		_ = s.swap(ctx, old.PID)
		return nil
	})
	both.Go(func() error {
		if err := entered("probation"); err != nil {
			return err
		}
		took, err = killOne(ctx, s.base().url, old.PID)
		return errors.Join(err, entered("rolled_back"))
	})
	err = both.Wait()
	if err != nil {
		err = fmt.Errorf("%w; the log: %s", err, s.base().written(offset))
	}
	return took, err
}

// killOne kills the process that answers instead of old and waits for old.
func killOne(ctx context.Context, url string, old int) (time.Duration, error) {
	successor, _, err := firstAnswer(ctx, url, old)
	if err != nil {
		return 0, err
	}
	p, err := openProcess(successor.PID)
	if err != nil {
		return 0, err
	}
	defer func() { _ = p.close() }()
	if err := p.kill(); err != nil {
		return 0, err
	}
	if err := p.wait(); err != nil {
		return 0, err
	}
	died := time.Now()
	back, _, err := firstAnswer(ctx, url, successor.PID)
	if err == nil && back.PID != old {
		err = fmt.Errorf("want an answer of the incumbent %d, found one of %d", old, back.PID)
	}
	return back.at.Sub(died), err
}
