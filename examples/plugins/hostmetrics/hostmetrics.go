package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/perennial-go/perennial/plugin/sdk"
)

// hostmetrics implements sdk.Plugin.
type hostmetrics struct {
	log      *slog.Logger
	manifest []byte // its settings
	stats    statter

	mu   sync.Mutex
	last error // of the newest sample
}

// Start reads the manifest's settings and looks whether there is a host.
func (h *hostmetrics) Start(_ context.Context, manifest []byte) error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("hostmetrics reads /proc, which only Linux has: %w", errors.ErrUnsupported)
	}
	s, err := readSettings(manifest)
	if err != nil {
		return err
	}
	stat := filepath.Join(s.Root, "proc", "stat")
	if _, err := os.Stat(stat); err != nil {
		return fmt.Errorf("root: want the directory that holds the host's /proc, found %s: %w", s.Root, err)
	}
	h.manifest = manifest
	return nil
}

// Execute sends a sample at once and then one every interval. The task's
// payload, if any, holds settings that go before the manifest's.
func (h *hostmetrics) Execute(ctx context.Context, task sdk.Task, send func(sdk.Result) error) error {
	set, err := readSettings(h.manifest, task.Payload)
	if err != nil {
		return err
	}
	sampler, err := newSampler(set, &h.stats)
	if err != nil {
		return err
	}
	tick := time.NewTicker(set.every)
	defer tick.Stop()
	told := map[problem]bool{}
	for {
		s := sampler.sample()
		h.note(s, told)
		payload, err := json.Marshal(s)
		if err != nil {
			return err
		}
		if err := send(sdk.Result{Payload: payload}); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// note keeps what Health says and logs the problems that are new.
func (h *hostmetrics) note(s *sample, told map[problem]bool) {
	h.mu.Lock()
	h.last = s.fault()
	h.mu.Unlock()
	now := map[problem]bool{}
	for _, p := range s.Problems {
		now[p] = true
		if !told[p] {
			h.log.Warn("not sampled", "name", p.Of, "error", p.Error)
		}
	}
	clear(told)
	for p := range now {
		told[p] = true
	}
}

// Health reports whether the newest sample had what is there to read.
func (h *hostmetrics) Health(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// Stop has nothing to release.
func (h *hostmetrics) Stop(context.Context) error { return nil }
