package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perennial-go/perennial/examples/internal/sleep"
)

const oneAgentTarget = 16.0 // MiB

// measureOneAgent leaves two processes alone, both at the same time.
func measureOneAgent(ctx context.Context, b *bench) (figure, error) {
	if statFields("/proc/self/stat") == nil {
		return figure{Skipped: "memory and processor time are read from /proc, which is not there"}, nil
	}
	url, err := b.startEtcd(ctx)
	if err != nil {
		return figure{}, err
	}
	binary, err := b.build(ctx, "bench/oneagent", "")
	if err != nil {
		return figure{}, err
	}
	ours, err := b.launch(ctx, "holds ", binary, "--etcd", url, "--id", "ours")
	if err != nil {
		return figure{}, err
	}
	theirs, err := b.launch(ctx, "holds ", binary, "--etcd", url, "--id", "bare", "--bare")
	if err != nil {
		return figure{}, err
	}
	if err := sleep.For(ctx, time.Duration(b.times(10, 2))*time.Second); err != nil {
		return figure{}, err
	}
	a, t := newUsage("lease, watch and client", ours), newUsage("bare clientv3", theirs)
	window := time.Duration(b.times(60, 8)) * time.Second
	if err := errors.Join(a.begin(), t.begin()); err != nil {
		return figure{}, err
	}
	for range int(window / time.Second) {
		if err := errors.Join(sleep.For(ctx, time.Second), a.sample(), t.sample()); err != nil {
			return figure{}, err
		}
	}
	f := figure{
		Measures: measures(a.resident, t.resident, a.private, t.private, a.file, t.file),
		Verdicts: []verdict{
			within("lease, watch and client, resident memory, median", "MiB", a.resident.median(), oneAgentTarget),
			{What: "the same / bare clientv3", Unit: "×", Value: a.resident.median() / t.resident.median()},
			{What: "lease, watch and client, processor time", Unit: "% of a core", Value: a.processor()},
			{What: "bare clientv3, processor time", Unit: "% of a core", Value: t.processor()},
		},
		Notes: []string{fmt.Sprintf("sampled every second for %v; processor time comes in steps of %v, which are %s %% of the window",
			window, clockTick, number(100*float64(clockTick)/float64(window)))},
	}
	return f, errors.Join(ours.stop(), theirs.stop())
}
