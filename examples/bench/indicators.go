package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/perennial-go/perennial/examples/internal/sleep"
	"github.com/perennial-go/perennial/health"
)

const (
	indicatorsTarget = 0.2 // percent of a core
	// growthTarget is what may be left between two collections that is no
	// growth.
	growthTarget = 16.0 // KiB
)

// measureIndicators leaves a Monitor with its indicators alone for ten
// minutes, and this process without one before it.
func measureIndicators(ctx context.Context, b *bench) (f figure, err error) {
	window := time.Duration(b.times(60, 2)) * time.Second
	bare, err := share(ctx, window)
	if err != nil {
		return figure{}, err
	}
	monitor, err := health.New(health.Config{DiskPath: b.dir})
	if err != nil {
		return figure{}, err
	}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- monitor.Run(running) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-ended)
	}()
	// What is made once is made by then.
	if err := sleep.For(ctx, window); err != nil {
		return figure{}, err
	}
	percent := &series{what: fmt.Sprintf("processor time, of %v each", window), unit: "% of a core"}
	live := &series{what: "live heap after each, collected", unit: "KiB"}
	made := &series{what: "allocations in each", unit: ""}
	for range b.times(10, 2) {
		before := mallocs()
		used, err := share(ctx, window)
		if err != nil {
			return figure{}, err
		}
		made.add(float64(mallocs() - before))
		percent.add(used)
		live.add(liveHeap())
	}
	var measured []string
	for _, i := range monitor.Report().Indicators {
		if !i.At.IsZero() {
			measured = append(measured, i.Name)
		}
	}
	half := len(live.samples) / 2
	first, last := series{samples: live.samples[:half]}, series{samples: live.samples[len(live.samples)-half:]}
	return figure{
		Measures: measures(percent, live, made),
		Verdicts: []verdict{
			within("all indicators, processor time, mean", "% of a core", percent.sum()/float64(len(percent.samples)), indicatorsTarget),
			{What: "the same process before, without them", Unit: "% of a core", Value: bare},
			within("growth of the live heap, median of the second half less that of the first", "KiB", last.median()-first.median(), growthTarget),
		},
		Notes: []string{
			fmt.Sprintf("a Monitor as health.Config{} makes it, its rules judged too, in the process of bench; these had values: %v", measured),
			"the agent's own indicators, which it pushes, are part of the figure idle",
		},
	}, nil
}

// share is what this process takes of the processors in a window in which it
// does nothing more, in percent of one.
func share(ctx context.Context, window time.Duration) (float64, error) {
	began := time.Now()
	before, err := processorTime()
	if err != nil {
		return 0, err
	}
	if err := sleep.For(ctx, window); err != nil {
		return 0, err
	}
	after, err := processorTime()
	return 100 * float64(after-before) / float64(time.Since(began)), err
}

// liveHeap is what a collection leaves, in KiB.
func liveHeap() float64 {
	// What the first frees has finalizers, which the second waits for.
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / 1024
}
