package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// result is what -o json prints.
type result struct {
	OK          bool         `json:"ok"`
	Interrupted bool         `json:"interrupted,omitempty"`
	Problems    []string     `json:"problems,omitempty"`
	Steps       []stepResult `json:"steps"`
	// Load is over all steps; nil if it was never begun.
	Load    *tally   `json:"load,omitempty"`
	Records *account `json:"records,omitempty"`
	Seconds float64  `json:"seconds"`
	// Dir is the directory, if it was kept.
	Dir string `json:"dir,omitempty"`
}

// stepResult is how one step went.
type stepResult struct {
	Name    string    `json:"name"`
	Title   string    `json:"title"`
	OK      bool      `json:"ok"`
	Said    string    `json:"said"`
	At      time.Time `json:"at"`
	Seconds float64   `json:"seconds"`
	// Load is what the clients saw meanwhile.
	Load *tally `json:"load,omitempty"`
}

// describe is the line of a step that succeeded.
func (r stepResult) describe() string {
	text := fmt.Sprintf("in %.2fs: %s", r.Seconds, r.Said)
	if r.Load != nil {
		text += fmt.Sprintf("\nmeanwhile %s requests, %d failed, longest pause of a client %v",
			number(r.Load.Requests), r.Load.Failed, round(r.Load.Pause.For))
	}
	return text
}

// judge adds what is not as it was promised to the problems that were met
// before.
func (r *result) judge(steps int) {
	met := r.Problems
	r.Problems = nil
	complain := func(format string, args ...any) { r.Problems = append(r.Problems, fmt.Sprintf(format, args...)) }
	for i, s := range r.Steps {
		if !s.OK {
			complain("step %d of %d, %s: %s", i+1, steps, s.Name, s.Said)
		}
	}
	for _, problem := range met {
		complain("%s", problem)
	}
	if l := r.Load; l != nil && l.Failed > 0 {
		complain("%d of %s requests failed", l.Failed, number(l.Requests))
	}
	if a := r.Records; a != nil {
		if a.Acknowledged == 0 {
			complain("no record was acknowledged, so that nothing is proven")
		}
		if a.Missing > 0 {
			complain("%s of %s acknowledged records are not on disk, such as number %d", number(a.Missing), number(a.Acknowledged), a.FirstMissing)
		}
		if a.LinesMissing > 0 {
			complain("%d of %d log lines were not collected, such as line %d", a.LinesMissing, a.Lines, a.FirstLineMissing)
		}
		if a.Damaged > 0 {
			complain("%d lines of the spool are no records", a.Damaged)
		}
	}
	r.OK = len(r.Problems) == 0
}

// printJSON writes the result for programs.
func (r *result) printJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// print writes the closing table for people.
func (r *result) print(s *screen) {
	if l := r.Load; l != nil {
		s.line(bold, "what the clients saw")
		for _, f := range l.Failures {
			s.line(red, "   failed after %s: %s: %s", f.At.Sub(s.began).Round(time.Millisecond), f.Client, f.Error)
		}
		row := func(name, format string, args ...any) {
			s.line(plain, "   %-32s %s", name, fmt.Sprintf(format, args...))
		}
		row("requests", "%s", number(l.Requests))
		row("failures", "%s", number(l.Failed))
		row("refused connections", "%s", number(l.Refused))
		row("longest pause a client saw", "%v (%s, step %s)", round(l.Pause.For), l.Pause.Client, l.Pause.Step)
		row("answers by version", "%s", l.versions())
		if a := r.Records; a != nil {
			row("records acknowledged", "%s", number(a.Acknowledged))
			row("records found on disk", "%s (%s missing, %s more than once)", number(a.Found), number(a.Missing), number(a.Repeated))
			if a.Lines > 0 {
				row("log lines written, collected", "%s, %s (by the plugin logtail)", number(a.Lines), number(a.Lines-a.LinesMissing))
			}
			row("samples of the host", "%s (by the plugin hostmetrics)", number(a.Samples))
		}
	}
	switch {
	case r.Interrupted:
		s.line(red, "interrupted; every process was ended%s", kept(r.Dir))
	case r.OK:
		s.line(green, "every step did what it says, no request failed, no acknowledged record is missing%s", kept(r.Dir))
	default:
		s.line(red, "FAILED: %s%s", strings.Join(r.Problems, "; "), kept(r.Dir))
	}
}

func kept(dir string) string {
	if dir == "" {
		return ""
	}
	return "; kept: " + dir
}
