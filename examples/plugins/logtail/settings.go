package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

const (
	minInterval     = 10 * time.Millisecond
	maxLineBytes    = 4 << 20
	defaultLine     = 64 << 10
	defaultInterval = 500 * time.Millisecond
	defaultLinger   = 5 * time.Second
)

// settings is what the manifest and the task may set.
type settings struct {
	Paths    []string `json:"paths"`
	Interval string   `json:"interval"`
	Start    string   `json:"start"`
	Linger   string   `json:"linger"`
	MaxLine  int      `json:"max_line_bytes"`

	interval, linger time.Duration
}

// parseSettings reads settings, the later ones over the earlier.
func parseSettings(layers ...[]byte) (settings, error) {
	s := settings{Interval: defaultInterval.String(), Linger: defaultLinger.String(), Start: "beginning", MaxLine: defaultLine}
	for _, raw := range layers {
		if len(raw) == 0 {
			continue
		}
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&s); err != nil {
			return s, fmt.Errorf("settings: %w", err)
		}
	}
	if len(s.Paths) == 0 {
		return s, errors.New("settings: paths: want at least one pattern such as /var/log/app/*.log, found none")
	}
	for _, p := range s.Paths {
		if _, err := filepath.Match(p, ""); err != nil || !filepath.IsAbs(p) {
			return s, fmt.Errorf("settings: paths: want absolute shell patterns, found %q", p)
		}
	}
	var err error
	if s.interval, err = time.ParseDuration(s.Interval); err != nil || s.interval < minInterval {
		return s, fmt.Errorf("settings: interval: want a duration of at least %s such as 500ms, found %q", minInterval, s.Interval)
	}
	if s.linger, err = time.ParseDuration(s.Linger); err != nil || s.linger < 0 {
		return s, fmt.Errorf("settings: linger: want a duration such as 5s, found %q", s.Linger)
	}
	if s.Start != "beginning" && s.Start != "end" {
		return s, fmt.Errorf("settings: start: want beginning or end, found %q", s.Start)
	}
	if s.MaxLine < 1 || s.MaxLine > maxLineBytes {
		return s, fmt.Errorf("settings: max_line_bytes: want 1 to %d, found %d", maxLineBytes, s.MaxLine)
	}
	return s, nil
}
