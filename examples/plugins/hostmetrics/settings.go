package main

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/perennial-go/perennial/plugin/sdk"
)

const (
	defaultInterval   = 10 * time.Second
	minInterval       = 100 * time.Millisecond
	defaultMaxCgroups = 100
	mostCgroups       = 1000
	defaultMaxMetrics = 5000
	mostMetrics       = 50_000
	mostPatterns      = 100
	mostLevels        = 8
)

// settings is what the manifest and the task may set.
type settings struct {
	Interval       string   `json:"interval"`
	Root           string   `json:"root"`
	PerCPU         bool     `json:"per_cpu"`
	Mounts         []string `json:"mounts"`
	SkipDevices    []string `json:"skip_devices"`
	SkipInterfaces []string `json:"skip_interfaces"`
	Cgroups        []string `json:"cgroups"`
	MaxCgroups     int      `json:"max_cgroups"`
	MaxMetrics     int      `json:"max_metrics"`

	every time.Duration
}

// readSettings takes the later layers over the earlier.
func readSettings(layers ...[]byte) (settings, error) {
	s := settings{
		Interval:       defaultInterval.String(),
		Root:           "/",
		SkipDevices:    []string{"loop*", "ram*"},
		SkipInterfaces: []string{"veth*"},
		Cgroups:        []string{"/", "/*"},
		MaxCgroups:     defaultMaxCgroups,
		MaxMetrics:     defaultMaxMetrics,
	}
	for _, raw := range layers {
		if err := sdk.Decode(raw, &s); err != nil {
			return s, fmt.Errorf("settings: %w", err)
		}
	}
	if err := s.validate(); err != nil {
		return s, fmt.Errorf("settings: %w", err)
	}
	return s, nil
}

func (s *settings) validate() error {
	var err error
	if s.every, err = time.ParseDuration(s.Interval); err != nil || s.every < minInterval {
		return fmt.Errorf("interval: want a duration of at least %s such as 10s, found %q", minInterval, s.Interval)
	}
	if !filepath.IsAbs(s.Root) {
		return fmt.Errorf("root: want an absolute path, found %q", s.Root)
	}
	for i, m := range s.Mounts {
		if !path.IsAbs(m) || path.Clean(m) != m || slices.Contains(s.Mounts[:i], m) {
			return fmt.Errorf("mounts: want absolute paths, each once, found %q", m)
		}
	}
	if s.MaxCgroups < 0 || s.MaxCgroups > mostCgroups {
		return fmt.Errorf("max_cgroups: want 0 to %d, found %d", mostCgroups, s.MaxCgroups)
	}
	if s.MaxMetrics < 1 || s.MaxMetrics > mostMetrics {
		return fmt.Errorf("max_metrics: want 1 to %d, found %d", mostMetrics, s.MaxMetrics)
	}
	return errors.Join(patterns("skip_devices", s.SkipDevices), patterns("skip_interfaces", s.SkipInterfaces), groupPatterns(s.Cgroups))
}

func patterns(field string, all []string) error {
	if len(all) > mostPatterns {
		return fmt.Errorf("%s: want at most %d patterns, found %d", field, mostPatterns, len(all))
	}
	for _, p := range all {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("%s: want patterns such as eth*, found %q: %w", field, p, err)
		}
	}
	return nil
}

func groupPatterns(all []string) error {
	for _, p := range all {
		if !path.IsAbs(p) || path.Clean(p) != p || strings.Count(p, "/") > mostLevels {
			return fmt.Errorf("cgroups: want patterns of at most %d levels such as /system.slice/*, found %q", mostLevels, p)
		}
	}
	return patterns("cgroups", all)
}

// matches reports whether one of the patterns is name's.
func matches(all []string, name string) bool {
	for _, p := range all {
		if ok, err := path.Match(p, name); err == nil && ok {
			return true
		}
	}
	return false
}
