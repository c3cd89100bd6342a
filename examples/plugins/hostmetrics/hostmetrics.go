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

// settings is what the manifest may set.
type settings struct {
	Interval string   `json:"interval"`
	Proc     string   `json:"proc"`
	Mounts   []string `json:"mounts"`
}

// hostmetrics implements sdk.Plugin.
type hostmetrics struct {
	interval time.Duration
	proc     procfs
	mounts   []string
	host     string

	mu   sync.Mutex
	last error // of the newest sample
}

// Start reads the settings and tries one sample.
func (h *hostmetrics) Start(_ context.Context, raw []byte) error {
	s := settings{Interval: defaultInterval.String(), Proc: "/proc", Mounts: []string{"/"}}
	if len(raw) > 0 {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&s); err != nil {
			return fmt.Errorf("settings: %w", err)
		}
	}
	var err error
	if h.interval, err = time.ParseDuration(s.Interval); err != nil || h.interval < minInterval {
		return fmt.Errorf("settings: interval: want a duration of at least %s such as 10s, found %q", minInterval, s.Interval)
	}
	for _, m := range s.Mounts {
		if !filepath.IsAbs(m) {
			return fmt.Errorf("settings: mounts: want absolute paths, found %q", m)
		}
	}
	h.proc, h.mounts = procfs(s.Proc), s.Mounts
	if h.host, err = os.Hostname(); err != nil {
		return err
	}
	_, err = h.sample(nil)
	return err
}

// Execute sends a sample at once and then one every interval.
func (h *hostmetrics) Execute(ctx context.Context, _ sdk.Task, send func(sdk.Result) error) error {
	tick := time.NewTicker(h.interval)
	defer tick.Stop()
	var before *sample
	for {
		s, err := h.sample(before)
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
