package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/perennial-go/perennial/upgrade"
)

// ticker prints an attempt's steps, each once and anew where it waits for
// something else, and its download in tenths.
type ticker struct {
	w     io.Writer
	state upgrade.State
	why   string
	tenth int64
	// passed is why the form before was of no use.
	passed string
}

func (t *ticker) show(s upgrade.Status) {
	if s.State != t.state || s.Reason != t.why {
		t.state, t.why, t.tenth = s.State, s.Reason, 0
		line := string(s.State)
		switch {
		case s.Reason != "":
			line += ": " + oneLine(s.Reason)
		case s.State == upgrade.Committed:
			line += ": " + s.To.Version + " runs"
		case !s.Deadline.IsZero():
			line += ", until " + s.Deadline.Local().Format("15:04:05")
		}
		say(t.w, "%s", line)
		for _, l := range s.Log {
			if strings.TrimSpace(l) != "" {
				say(t.w, "  | %s", oneLine(l))
			}
		}
	}
	if p := s.Progress; p != nil && p.Passed != t.passed {
		if t.passed, t.tenth = p.Passed, 0; p.Passed != "" {
			say(t.w, "a smaller form was of no use: %s", p.Passed)
		}
	}
	if p := s.Progress; p != nil && p.Total > 0 && p.Done*10/p.Total > t.tenth {
		t.tenth = p.Done * 10 / p.Total
		line := fmt.Sprintf("%s %d %% of %s", s.State, t.tenth*10, mebibytes(p.Total))
		if p.Form != "" {
			line += " (" + p.Form + ")"
		}
		say(t.w, "%s", line)
	}
}

// say prints one line with the time; a terminal that has gone is no reason
// to stop.
func say(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, time.Now().Format("15:04:05.000")+" "+format+"\n", args...)
}
