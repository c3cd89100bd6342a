package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/perennial-go/perennial/plugin/sdk"
)

// logtail implements sdk.Plugin.
type logtail struct {
	log      *slog.Logger
	manifest []byte // its settings

	mu       sync.Mutex
	problems map[*follower]error
}

// Start checks the manifest's settings.
func (p *logtail) Start(_ context.Context, manifest []byte) error {
	p.manifest = manifest
	_, err := parseSettings(manifest)
	return err
}

// Health reports files that match and cannot be read or are too many.
func (p *logtail) Health(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(slices.Collect(maps.Values(p.problems))...)
}

// Stop has nothing to release: the files belong to the tasks.
func (p *logtail) Stop(context.Context) error { return nil }

// Execute follows the files from the task's cursor on.
func (p *logtail) Execute(ctx context.Context, task sdk.Task, send func(sdk.Result) error) error {
	at, err := parseCursor(task.Cursor)
	if err != nil {
		return err
	}
	// The task's payload, if any, goes before the manifest's settings.
	settings, err := parseSettings(p.manifest, task.Payload)
	if err != nil {
		return err
	}
	f := newFollower(settings, p.log, send)
	defer f.close()
	defer p.report(f, nil)
	if at != nil {
		f.resume(at, time.Now())
	}
	tick := time.NewTicker(settings.interval)
	defer tick.Stop()
	for first := at == nil; ; first = false {
		f.look(first && settings.Start == "end")
		if first {
			// What was there is not of interest, also if the task is begun
			// again before the first line.
			if err := f.result(nil); err != nil {
				return err
			}
		}
		more, err := f.drain(ctx)
		if err != nil {
			return err
		}
		p.report(f, summary(f.problems))
		if more {
			continue
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *logtail) report(f *follower, problem error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.problems == nil {
		p.problems = map[*follower]error{}
	}
	if p.problems[f] = problem; problem == nil {
		delete(p.problems, f)
	}
}

// summary names the first few.
func summary(problems []error) error {
	const most = 3
	if len(problems) == 0 {
		return nil
	}
	var texts []string
	for _, err := range problems[:min(most, len(problems))] {
		texts = append(texts, err.Error())
	}
	if n := len(problems) - most; n > 0 {
		texts = append(texts, fmt.Sprintf("%d more", n))
	}
	return errors.New(strings.Join(texts, "; "))
}
