package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/perennial-go/perennial/plugin"
)

// hostmetricsSettings make it sample more often than it would.
func hostmetricsSettings() map[string]any { return map[string]any{"interval": "200ms"} }

// replacePlugin installs a new version of a plugin that is collecting.
func (s *site) replacePlugin(ctx context.Context) (string, error) {
	e, err := s.registered(ctx)
	if err != nil {
		return "", err
	}
	before := pluginOf(e, "hostmetrics")
	// It works: samples arrive.
	if err := s.sampled(ctx, time.Now(), 3); err != nil {
		return "", err
	}
	began := time.Now()
	if err := s.install(ctx, "hostmetrics", hostmetrics, "1.1.0", hostmetricsSettings()); err != nil {
		return "", err
	}
	s.screen.detail("hostmetrics 1.1.0 lies in the plugins directory")
	var now plugin.Status
	err = s.await(ctx, "the registry shows hostmetrics 1.1.0 running", func(ctx context.Context) error {
		e, err := s.registered(ctx)
		if err != nil {
			return err
		}
		now = pluginOf(e, "hostmetrics")
		if now.Version != "1.1.0" || now.State != plugin.Running || now.PID == before.PID {
			return fmt.Errorf("%s in process %d, %s %s", now.Version, now.PID, now.State, now.Reason)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	if now.Restarts != before.Restarts {
		return "", fmt.Errorf("want the plugin replaced without a crash, found %d restarts where there were %d", now.Restarts, before.Restarts)
	}
	if err := s.sampled(ctx, time.Now(), 5); err != nil {
		return "", err
	}
	gap, err := s.longestGap(began.Add(-2 * time.Second))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("hostmetrics %s in process %d gave way to %s in process %d; two samples were at most %v apart",
		before.Version, before.PID, now.Version, now.PID, round(gap)), nil
}

// samples are the times of what hostmetrics has sampled, in order, as they
// are found in the spool.
func (s *site) samples() ([]time.Time, error) {
	var times []time.Time
	err := readSpool(s.state, func(line []byte) error {
		if !bytes.Contains(line, []byte(`"source":"hostmetrics"`)) {
			return nil
		}
		var sample struct {
			Time time.Time `json:"time"`
		}
		if err := json.Unmarshal(line, &sample); err != nil {
			return err
		}
		times = append(times, sample.Time)
		return nil
	})
	slices.SortFunc(times, time.Time.Compare)
	return times, err
}

// sampled waits for n samples that are newer than since.
func (s *site) sampled(ctx context.Context, since time.Time, n int) error {
	return s.await(ctx, fmt.Sprintf("%d new samples of hostmetrics are in the spool", n), func(context.Context) error {
		times, err := s.samples()
		if err != nil {
			return err
		}
		fresh := 0
		for _, t := range times {
			if t.After(since) {
				fresh++
			}
		}
		if fresh < n {
			return fmt.Errorf("%d", fresh)
		}
		return nil
	})
}

// longestGap is the longest time between two samples since then.
func (s *site) longestGap(since time.Time) (time.Duration, error) {
	times, err := s.samples()
	if err != nil {
		return 0, err
	}
	times = slices.DeleteFunc(times, func(t time.Time) bool { return t.Before(since) })
	if len(times) < 2 {
		return 0, errors.New("want at least two samples, found fewer")
	}
	var gap time.Duration
	for i := range times[1:] {
		gap = max(gap, times[i+1].Sub(times[i]))
	}
	return gap, nil
}
