package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perennial-go/perennial/examples/internal/sleep"
)

const oneAgentTarget = 16.0 // MiB

// measureOneAgent leaves processes alone, all at the same time.
func measureOneAgent(ctx context.Context, b *bench) (figure, error) {
	if statFields("/proc/self/stat") == nil {
		return figure{Skipped: "memory and processor time are read from /proc, which is not there"}, nil
	}
	url, err := b.startEtcd(ctx)
	if err != nil {
		return figure{}, err
	}
	var all []*usage
	for _, p := range []struct{ what, pkg, tags, ldflags string }{
		{"lease, watch and client", "bench/oneagent", "grpcnotrace", "-s -w"},
		{"the same as go build links it", "bench/oneagent", "", ""},
		{"bare clientv3", "bench/barelease", "grpcnotrace", "-s -w"},
		{"bare clientv3 as go build links it", "bench/barelease", "", ""},
	} {
		binary, err := b.buildWith(ctx, p.pkg, p.tags, p.ldflags)
		if err != nil {
			return figure{}, err
		}
		s, err := b.launch(ctx, "holds ", binary, "--etcd", url)
		if err != nil {
			return figure{}, err
		}
		all = append(all, newUsage(p.what, s))
	}
	window := time.Duration(b.times(60, 8)) * time.Second
	if err := watchAll(ctx, all, time.Duration(b.times(10, 2))*time.Second, window); err != nil {
		return figure{}, err
	}
	tight, plain, bareTight, barePlain := all[0], all[1], all[2], all[3]
	f := figure{
		Verdicts: []verdict{
			within(tight.resident.what+", median", "MiB", tight.resident.median(), oneAgentTarget),
			within(plain.resident.what+", median", "MiB", plain.resident.median(), oneAgentTarget),
			{What: "memory, ours / bare", Unit: "×", Value: tight.resident.median() / bareTight.resident.median()},
			{What: "memory, ours / bare, as go build links them", Unit: "×", Value: plain.resident.median() / barePlain.resident.median()},
			{What: "lease, watch and client: processor time", Unit: "% of a core", Value: tight.processor()},
			{What: "bare clientv3: processor time", Unit: "% of a core", Value: bareTight.processor()},
		},
		Notes: []string{
			"built with -tags grpcnotrace -ldflags '-s -w', or as go build does it: the tag leaves out a tracer whose templates keep the linker from dropping what is not used",
			fmt.Sprintf("sampled every second for %v; processor time comes in steps of %v, which are %s %% of the window",
				window, clockTick, number(100*float64(clockTick)/float64(window))),
		},
	}
	for _, u := range all {
		f.Measures = append(f.Measures, measures(u.resident, u.private, u.file)...)
	}
	return f, nil
}

// watchAll takes a sample of each every second, after a while in which they
// settle.
func watchAll(ctx context.Context, all []*usage, settle, window time.Duration) error {
	err := sleep.For(ctx, settle)
	for _, u := range all {
		err = errors.Join(err, u.begin())
	}
	for range int(window / time.Second) {
		err = errors.Join(err, sleep.For(ctx, time.Second))
		for _, u := range all {
			err = errors.Join(err, u.sample())
		}
		if err != nil {
			return err
		}
	}
	return err
}
