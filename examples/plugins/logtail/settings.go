package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"time"

	"github.com/perennial-go/perennial/plugin/sdk"
)

const (
	minInterval = 10 * time.Millisecond
	// mostLineBytes is what an agent takes for one record: in JSON each byte
	// may become six, and as many as 1.34 again in base64, and the path comes
	// on top.
	mostLineBytes   = 128 << 10
	mostFiles       = 1024
	mostEventLines  = 10_000
	mostPatternSize = 1024

	defaultLine     = 64 << 10
	defaultFiles    = 256
	defaultLines    = 500
	defaultInterval = 500 * time.Millisecond
	defaultLinger   = 5 * time.Second
	defaultWait     = 2 * time.Second
)

// settings is what the manifest and the task may set.
type settings struct {
	Paths     []string   `json:"paths"`
	Interval  string     `json:"interval"`
	Start     string     `json:"start"`
	Linger    string     `json:"linger"`
	MaxLine   int        `json:"max_line_bytes"`
	MaxFiles  int        `json:"max_files"`
	Multiline *multiline `json:"multiline"`

	interval, linger, wait time.Duration
	splitter               splitter
}

// multiline makes one record of several lines.
type multiline struct {
	First    string `json:"first"`
	MaxLines int    `json:"max_lines"`
	Wait     string `json:"wait"`
}

// parseSettings reads settings, the later ones over the earlier.
func parseSettings(layers ...[]byte) (settings, error) {
	s := settings{
		Interval: defaultInterval.String(), Linger: defaultLinger.String(), Start: "beginning",
		MaxLine: defaultLine, MaxFiles: defaultFiles,
	}
	for _, raw := range layers {
		if err := sdk.Decode(raw, &s); err != nil {
			return s, fmt.Errorf("settings: %w", err)
		}
	}
	return s, s.check()
}

func (s *settings) check() error {
	if len(s.Paths) == 0 {
		return errors.New("settings: paths: want at least one pattern such as /var/log/app/*.log, found none")
	}
	for _, p := range s.Paths {
		if _, err := filepath.Match(p, ""); err != nil || !filepath.IsAbs(p) {
			return fmt.Errorf("settings: paths: want absolute shell patterns, found %q", p)
		}
	}
	var err error
	if s.interval, err = time.ParseDuration(s.Interval); err != nil || s.interval < minInterval {
		return fmt.Errorf("settings: interval: want a duration of at least %s such as 500ms, found %q", minInterval, s.Interval)
	}
	if s.linger, err = time.ParseDuration(s.Linger); err != nil || s.linger < 0 {
		return fmt.Errorf("settings: linger: want a duration such as 5s, found %q", s.Linger)
	}
	if s.Start != "beginning" && s.Start != "end" {
		return fmt.Errorf("settings: start: want beginning or end, found %q", s.Start)
	}
	if s.MaxLine < 1 || s.MaxLine > mostLineBytes {
		return fmt.Errorf("settings: max_line_bytes: want 1 to %d, found %d", mostLineBytes, s.MaxLine)
	}
	if s.MaxFiles < 1 || s.MaxFiles > mostFiles {
		return fmt.Errorf("settings: max_files: want 1 to %d, found %d", mostFiles, s.MaxFiles)
	}
	s.splitter = splitter{maxBytes: s.MaxLine}
	return s.checkMultiline()
}

func (s *settings) checkMultiline() error {
	m := s.Multiline
	if m == nil {
		return nil
	}
	s.splitter.maxLines, s.wait = m.MaxLines, defaultWait
	if m.MaxLines == 0 {
		s.splitter.maxLines = defaultLines
	}
	if n := s.splitter.maxLines; n < 1 || n > mostEventLines {
		return fmt.Errorf("settings: multiline: max_lines: want 1 to %d, found %d", mostEventLines, n)
	}
	var err error
	if m.Wait != "" {
		if s.wait, err = time.ParseDuration(m.Wait); err != nil || s.wait < 0 {
			return fmt.Errorf("settings: multiline: wait: want a duration such as 2s, found %q", m.Wait)
		}
	}
	if m.First == "" || len(m.First) > mostPatternSize {
		return fmt.Errorf(`settings: multiline: first: want a pattern of at most %d bytes that the first line of an event matches, such as "^[0-9]{4}-", found %d bytes`, mostPatternSize, len(m.First))
	}
	if s.splitter.first, err = regexp.Compile(m.First); err != nil {
		return fmt.Errorf("settings: multiline: first: %w", err)
	}
	return nil
}

// wants reports whether a path is still one that is to be followed.
func (s *settings) wants(path string) bool {
	for _, p := range s.Paths {
		p = filepath.Clean(p)
		if ok, _ := filepath.Match(p, path); ok || path == p || filepath.Dir(path) == p {
			return true
		}
	}
	return false
}
