package main

import (
	"fmt"
	"time"
)

// moment is the value of a flag for a point in time: RFC 3339, or a duration
// from now on.
type moment struct {
	text  string
	fixed time.Time
	after time.Duration
}

// String, Set and Type implement pflag.Value.
func (m *moment) String() string { return m.text }

func (m *moment) Set(s string) error {
	fixed, err := time.Parse(time.RFC3339, s)
	after, notDuration := time.ParseDuration(s)
	switch {
	case err == nil:
		*m = moment{text: s, fixed: fixed}
	case notDuration == nil && after > 0:
		*m = moment{text: s, after: after}
	default:
		return fmt.Errorf("want a time such as 2030-01-02T15:04:05Z, or a duration from now such as 10m, found %q", s)
	}
	return nil
}

func (m *moment) Type() string { return "time" }

// at is the point in time, zero if none was given.
func (m *moment) at(now time.Time) time.Time {
	if m.after > 0 {
		return now.Add(m.after)
	}
	return m.fixed
}
