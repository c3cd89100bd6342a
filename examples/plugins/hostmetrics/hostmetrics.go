package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/perennial-go/perennial/plugin/sdk"
)

const (
	defaultInterval = 10 * time.Second
	minInterval     = 100 * time.Millisecond
)

// settings is what the manifest and the task may set.
type settings struct {
	Interval string   `json:"interval"`
	Proc     string   `json:"proc"`
	Mounts   []string `json:"mounts"`
}

// hostmetrics implements sdk.Plugin.
type hostmetrics struct {
	manifest []byte // its settings

	mu   sync.Mutex
	last error // of the newest sample
}

// sampler is what a set of settings comes to.
type sampler struct {
	interval time.Duration
	proc     procfs
	mounts   []string
	host     string
}

// newSampler reads settings, the later ones over the earlier.
func newSampler(layers ...[]byte) (sampler, error) {
	var h sampler
	s := settings{Interval: defaultInterval.String(), Proc: "/proc", Mounts: []string{"/"}}
	for _, raw := range layers {
		if len(raw) == 0 {
			continue
		}
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&s); err != nil {
			return h, fmt.Errorf("settings: %w", err)
		}
	}
	var err error
	if h.interval, err = time.ParseDuration(s.Interval); err != nil || h.interval < minInterval {
		return h, fmt.Errorf("settings: interval: want a duration of at least %s such as 10s, found %q", minInterval, s.Interval)
	}
	for _, m := range s.Mounts {
		if !filepath.IsAbs(m) {
			return h, fmt.Errorf("settings: mounts: want absolute paths, found %q", m)
		}
	}
	h.proc, h.mounts = procfs(s.Proc), s.Mounts
	h.host, err = os.Hostname()
	return h, err
}

// Start reads the manifest's settings and tries one sample.
func (h *hostmetrics) Start(_ context.Context, manifest []byte) error {
	h.manifest = manifest
	sampler, err := newSampler(manifest)
	if err == nil {
		_, err = sampler.sample(nil)
	}
	return err
}

// Execute sends a sample at once and then one every interval. The task's
// payload, if any, holds settings that go before the manifest's.
func (h *hostmetrics) Execute(ctx context.Context, task sdk.Task, send func(sdk.Result) error) error {
	sampler, err := newSampler(h.manifest, task.Payload)
	if err != nil {
		return err
	}
	tick := time.NewTicker(sampler.interval)
	defer tick.Stop()
	var before *sample
	for {
		s, err := sampler.sample(before)
		h.mu.Lock()
		h.last = err
		h.mu.Unlock()
		if err == nil {
			before = s
			payload, err := json.Marshal(s)
			if err != nil {
				return err
			}
			if err := send(sdk.Result{Payload: payload}); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Health reports whether the newest sample could be read.
func (h *hostmetrics) Health(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// Stop has nothing to release.
func (h *hostmetrics) Stop(context.Context) error { return nil }
