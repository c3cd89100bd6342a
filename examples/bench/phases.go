package main

import (
	"bytes"
	"encoding/json"
	"time"
)

// event is a line of a log about an upgrade.
type event struct {
	Time                time.Time
	Msg, State, Release string
}

// events are the lines of a log in which an upgrade enters a state.
func events(log []byte) []event {
	var all []event
	for line := range bytes.Lines(log) {
		var e event
		if json.Unmarshal(line, &e) == nil && e.Msg == "upgrade" {
			all = append(all, e)
		}
	}
	return all
}

// phases are the times that the upgrades of a log spent in each state. The
// request itself is not logged, so that the first is from "downloading" on.
func phases(log []byte) []*series {
	parts := []struct{ from, to, what string }{
		{"downloading", "verifying", "download and its check"},
		{"verifying", "staged", "staging"},
		{"staged", "starting", "wait for the process before to end, and the journal"},
		{"starting", "probation", "start until the successor serves"},
		{"probation", "committing", "probation until a healthy report after it"},
		{"committing", "committed", "commit"},
		// It may be gone before its successor has written that it committed.
		{"committing", "gone", "commit, drain and end of the process before"},
	}
	entered := map[string]time.Time{}
	for _, e := range events(log) {
		entered[e.Release+" "+e.State] = e.Time
	}
	var all []*series
	for _, p := range parts {
		s := &series{what: "upgrade alone: " + p.what, unit: "ms"}
		for _, e := range events(log) {
			end, ok := entered[e.Release+" "+p.to]
			if e.State == p.from && ok {
				s.addTime(end.Sub(e.Time))
			}
		}
		all = append(all, s)
	}
	return all
}
