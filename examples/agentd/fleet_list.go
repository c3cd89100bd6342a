package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/perennial-go/perennial/agent"
)

// listedAgent is an agent as JSON, with how it is in brief.
type listedAgent struct {
	*agent.Entry
	Severity string `json:"severity"`
	Worst    string `json:"worst,omitempty"`
}

func listed(e *agent.Entry, now time.Time) *listedAgent {
	severity, worst := e.Standing(now)
	return &listedAgent{e, severity.String(), worst}
}

// fleetLine is an agent of a list, in the one form that is to be printed: what a
// fleet tells of itself takes many times the room of its table.
type fleetLine struct {
	severity agent.Severity
	row      []string
	entry    *listedAgent
}

// listing is a list of agents, the worst first.
type listing struct {
	agents []fleetLine
	found  int // with those that a limit leaves out
	strays agent.Strays
}

// worstFirst sorts agents, those of the same severity by their ids if they are
// added so, and leaves no more than limit; 0 = all.
func (l *listing) worstFirst(limit int) {
	slices.SortStableFunc(l.agents, func(a, b fleetLine) int { return b.severity.Compare(a.severity) })
	if limit > 0 && len(l.agents) > limit {
		clear(l.agents[limit:])
		l.agents = l.agents[:limit]
	}
}

// line is an agent as this command prints it. e is a copy: its neighbours in a
// page are not to be kept for its sake.
func (f *fleetFlags) line(e agent.Entry, now time.Time) (l fleetLine) {
	if l.severity, _ = e.Standing(now); f.output.json() {
		l.entry = listed(&e, now)
	} else {
		l.row = fleetTable{wide: f.wide}.row(&e)
	}
	return l
}

func (l *listing) rows() (rows [][]string) {
	for _, a := range l.agents {
		rows = append(rows, a.row)
	}
	return rows
}

func (l *listing) entries() []*listedAgent {
	all := []*listedAgent{}
	for _, a := range l.agents {
		all = append(all, a.entry)
	}
	return all
}

const (
	// pageSize is how many agents are asked for at once.
	pageSize = 500
	// listTries bounds how often a list is begun again that etcd has compacted.
	listTries = 3
)

// list reads page by page, each within --timeout, and tells of its progress.
func (f *fleetFlags) list(ctx context.Context, line func(agent.Entry, time.Time) fleetLine) (listing, error) {
	for try := 1; ; try++ {
		l, err := f.listOnce(ctx, line)
		if !errors.Is(err, agent.ErrExpired) || try == listTries {
			return l, err
		}
		say(f.progress, "%s", oneLine(err.Error()))
	}
}

func (f *fleetFlags) listOnce(ctx context.Context, line func(agent.Entry, time.Time) fleetLine) (listing, error) {
	var l listing
	now := time.Now()
	told := now
	opts := agent.ListOptions{Selector: f.selected, Limit: pageSize}
	for {
		var page agent.Page
		err := f.etcd.ask(ctx, func(ctx context.Context) (err error) {
			page, err = f.directory.List(ctx, opts)
			return err
		})
		if err != nil {
			return l, err
		}
		for _, e := range page.Entries {
			l.agents = append(l.agents, line(e, now))
		}
		l.found += len(page.Entries)
		l.worstFirst(f.limit)
		l.strays.Count += page.Strays.Count
		l.strays.Examples = append(l.strays.Examples, page.Strays.Examples...)
		l.strays.Examples = l.strays.Examples[:min(3, len(l.strays.Examples))]
		if opts.Continue = page.Continue; opts.Continue == "" {
			return l, nil
		}
		if time.Since(told) > time.Second {
			told = time.Now()
			say(f.progress, "%s so far", counted(l.found, "agent"))
		}
	}
}
