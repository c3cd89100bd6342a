package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/perennial-go/perennial/examples/internal/sleep"
)

const supervisorTarget = 12.0 // MiB

// measureSupervisor looks at the process that stays while the agent below it
// is replaced: the one that was started.
func measureSupervisor(ctx context.Context, b *bench) (figure, error) {
	if statFields("/proc/self/stat") == nil {
		return figure{Skipped: "memory is read from /proc, which is not there"}, nil
	}
	binary, err := b.build(ctx, "agentd", "")
	if err != nil {
		return figure{}, err
	}
	help, err := exec.CommandContext(ctx, binary, "run", "--help").CombinedOutput()
	if err != nil {
		return figure{}, fmt.Errorf("agentd run --help: %w", err)
	}
	if !bytes.Contains(help, []byte("--supervise ")) {
		return figure{Skipped: "not available: agentd run has no --supervise"}, nil
	}
	s, err := b.startSite(ctx, shortProbation, "--supervise=always")
	if err != nil {
		return figure{}, err
	}
	first, second := newUsage("supervisor, after its start", s.base()), newUsage("supervisor, after an upgrade", s.base())
	serves, err := whoAnswers(ctx, s.url)
	if err == nil && serves.PID == first.pid {
		err = fmt.Errorf("want a supervisor with the agent as another process, found one process, %d", serves.PID)
	}
	err = errors.Join(err, first.watch(ctx, b.times(10, 2)), s.prepare(ctx))
	if err == nil {
		err = replaced(ctx, s, serves.PID)
	}
	if err = errors.Join(err, second.watch(ctx, b.times(10, 2))); err != nil {
		return figure{}, err
	}
	f := figure{
		Verdicts: []verdict{
			within("supervisor after its start, resident memory, median", "MiB", first.resident.median(), supervisorTarget),
			within("supervisor after an upgrade, resident memory, median", "MiB", second.resident.median(), supervisorTarget),
		},
		Notes: []string{"the process that was started, of agentd run --supervise=always; resident = anonymous + file"},
	}
	for _, u := range []*usage{first, second} {
		f.Measures = append(f.Measures, measures(u.resident, u.private, u.file)...)
	}
	return f, s.close()
}

// watch takes a sample a second, after three that let the process settle.
func (u *usage) watch(ctx context.Context, seconds int) error {
	if err := sleep.For(ctx, 3*time.Second); err != nil {
		return err
	}
	for range seconds {
		if err := errors.Join(u.sample(), sleep.For(ctx, time.Second)); err != nil {
			return err
		}
	}
	return nil
}
