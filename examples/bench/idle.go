package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/perennial-go/perennial/examples/internal/sleep"
)

const (
	memoryTarget    = 40.0 // MiB
	processorTarget = 1.0  // percent of a core
	// clockTick is the unit of processor times in /proc on every
	// architecture that Go runs on.
	clockTick = 10 * time.Millisecond
)

// measureIdle leaves two servers alone, both at the same time.
func measureIdle(ctx context.Context, b *bench) (figure, error) {
	if statFields("/proc/self/stat") == nil {
		return figure{Skipped: "memory and processor time are read from /proc, which is not there"}, nil
	}
	ours, theirs, err := b.startPair(ctx)
	if err != nil {
		return figure{}, err
	}
	settle := time.Duration(b.times(15, 3)) * time.Second
	window := time.Duration(b.times(60, 8)) * time.Second
	a, t := newUsage("agentd", ours.base()), newUsage("bare tableflip", theirs.base())
	if err := sleep.For(ctx, settle); err != nil {
		return figure{}, err
	}
	for _, u := range []*usage{a, t} {
		if err := u.begin(); err != nil {
			return figure{}, err
		}
	}
	for range int(window / time.Second) {
		if err := sleep.For(ctx, time.Second); err != nil {
			return figure{}, err
		}
		if err := errors.Join(a.sample(), t.sample()); err != nil {
			return figure{}, err
		}
	}
	percent, barePercent := a.processor(), t.processor()
	f := figure{
		Measures: measures(a.resident, t.resident, a.private, t.private, a.file, t.file),
		Verdicts: []verdict{
			within("agentd, resident memory, median", "MiB", a.resident.median(), memoryTarget),
			within("agentd, processor time", "% of a core", percent, processorTarget),
		},
		Notes: []string{
			fmt.Sprintf("sampled every second for %v, %v after the start; the server of bare tableflip took %s %% of a core", window, settle, number(barePercent)),
			"resident = anonymous + file: file is what of the executable is mapped, which the kernel shares and can drop",
		},
	}
	return f, errors.Join(ours.close(), theirs.stop())
}

// usage is what one process takes.
type usage struct {
	pid                     int
	resident, private, file *series
	began                   time.Time
	used                    time.Duration // by began
}

func newUsage(who string, s *server) *usage {
	return &usage{
		pid:      s.cmd.Process.Pid,
		resident: &series{what: who + ": resident memory (VmRSS)", unit: "MiB"},
		private:  &series{what: who + ": anonymous (RssAnon)", unit: "MiB"},
		file:     &series{what: who + ": file (RssFile)", unit: "MiB"},
	}
}

func (u *usage) begin() (err error) {
	u.began = time.Now()
	u.used, err = u.processorTime()
	return err
}

// processorTime is what the process has taken in user and system mode.
func (u *usage) processorTime() (time.Duration, error) {
	f := statFields(fmt.Sprintf("/proc/%d/stat", u.pid))
	if len(f) < 13 {
		return 0, fmt.Errorf("process %d has gone", u.pid)
	}
	user, err := strconv.Atoi(f[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(f[12])
	return time.Duration(user+system) * clockTick, err
}

// processor is the share of one core since begin, in percent.
func (u *usage) processor() float64 {
	now, err := u.processorTime()
	if err != nil {
		return 100 // it has ended, which is no way to save time
	}
	return 100 * float64(now-u.used) / float64(time.Since(u.began))
}

func (u *usage) sample() error {
	path := fmt.Sprintf("/proc/%d/status", u.pid)
	status := readText(path)
	for key, s := range map[string]*series{"VmRSS": u.resident, "RssAnon": u.private, "RssFile": u.file} {
		kilobytes, _, _ := strings.Cut(procValue(status, key), " ")
		n, err := strconv.Atoi(kilobytes)
		if err != nil {
			return fmt.Errorf("%s in %s: %w", key, path, err)
		}
		s.add(float64(n) / 1024)
	}
	return nil
}
