package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/perennial-go/perennial/agent"
)

const (
	// watchPause is the least time between two prints for people, so that the
	// steady beat of a large fleet can be read.
	watchPause = time.Second
	// watchRows bounds the agents of one print; the rest is counted.
	watchRows = 50
)

// follow ends with an interrupt, which is no failure, or when nobody reads what
// it prints.
func (f *fleetFlags) follow(parent context.Context) error {
	// An etcd that cannot be reached at all is an error, not something to wait
	// for in silence.
	err := f.etcd.ask(parent, func(ctx context.Context) error {
		_, err := f.directory.List(ctx, agent.ListOptions{Limit: 1})
		return err
	})
	if err != nil {
		return err
	}
	x, err := agent.NewIndex(agent.IndexConfig{Directory: f.directory, OnError: func(err error) {
		if err == nil {
			say(f.progress, "etcd answers again")
			return
		}
		say(f.progress, "what is shown is not up to date: %s", oneLine(err.Error()))
	}})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(parent)
	var run sync.WaitGroup
	defer run.Wait()
	defer stop(nil)
	run.Go(func() { _ = x.Run(ctx) }) // it ends with ctx
	w := &fleetWatch{fleetFlags: f, shown: map[string]string{}}
	tell := w.printRows
	switch {
	case f.summary:
		tell = w.printSummary
	case f.output.json():
		tell = w.printEvents
	}
	err = x.Watch(ctx, func(s *agent.Snapshot, c agent.Changes) {
		if err := tell(ctx, s, c); err != nil {
			stop(err)
		}
	})
	if parent.Err() != nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// fleetWatch prints changes.
type fleetWatch struct {
	*fleetFlags
	// shown is what was printed last of each agent that is selected.
	shown map[string]string
	// before is the summary as it was printed last.
	before string
	began  bool
}

// pause holds the watch up, which meanwhile folds further changes.
func (w *fleetWatch) pause(ctx context.Context) {
	t := time.NewTimer(watchPause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// agentChange is one of an agent that is selected, or was.
type agentChange struct {
	what string
	e    *agent.Entry
}

const (
	added   = "added"
	changed = "changed"
	removed = "removed"
)

// changes are those of agents that are selected, or were. Of an agent that stays
// only what makes the text another one is a change, unless text is nil.
func (w *fleetWatch) changes(c agent.Changes, text func(*agent.Entry) string) []agentChange {
	var all []agentChange
	for _, entries := range [][]*agent.Entry{c.Added, c.Changed} {
		for _, e := range entries {
			before, was := w.shown[e.ID]
			is := w.selected.Matches(e)
			now := ""
			if is && text != nil {
				now = text(e)
			}
			if is {
				w.shown[e.ID] = now
			}
			switch {
			case is && !was:
				all = append(all, agentChange{added, e})
			case is && (text == nil || now != before):
				all = append(all, agentChange{changed, e})
			case !is && was:
				delete(w.shown, e.ID)
				all = append(all, agentChange{removed, e})
			}
		}
	}
	for _, e := range c.Removed {
		if _, was := w.shown[e.ID]; was {
			delete(w.shown, e.ID)
			all = append(all, agentChange{removed, e})
		}
	}
	return all
}

// printRows shows all agents at first and then those that changed.
func (w *fleetWatch) printRows(ctx context.Context, s *agent.Snapshot, c agent.Changes) error {
	table := fleetTable{wide: w.wide}
	all := w.changes(c, func(e *agent.Entry) string { return strings.Join(table.row(e), "\t") })
	if !w.began {
		w.began = true
		w.tellStrays(s.Strays())
		say(w.stdout, "%s", counted(len(w.shown), "agent"))
		var l listing
		for _, e := range s.List(w.selected) {
			l.agents = append(l.agents, w.line(*e, time.Now()))
		}
		l.worstFirst(0)
		return w.printAll(l.rows())
	}
	if len(all) == 0 {
		return nil
	}
	rows := [][]string{append([]string{"CHANGE"}, table.header()...)}
	for _, c := range all[:min(len(all), watchRows)] {
		rows = append(rows, append([]string{c.what}, table.row(c.e)...))
	}
	say(w.stdout, "%s, %d changed", counted(len(w.shown), "agent"), len(all))
	err := printTable(w.stdout, rows)
	if n := len(all) - watchRows; n > 0 && err == nil {
		_, err = fmt.Fprintf(w.stdout, "and %d more\n", n)
	}
	w.pause(ctx)
	return err
}

// printSummary prints the counts anew when they are others.
func (w *fleetWatch) printSummary(ctx context.Context, s *agent.Snapshot, _ agent.Changes) error {
	var text strings.Builder
	counts := withoutTimes(s.Fleet(agent.FleetOptions{Selector: w.selected}))
	var err error
	if w.output.json() {
		err = json.NewEncoder(printableJSON{&text}).Encode(counts)
	} else {
		err = printSummary(&text, counts, w.output)
	}
	if err == nil && text.String() != w.before {
		w.before = text.String()
		_, err = io.WriteString(w.stdout, w.before)
	}
	w.pause(ctx) // also where nothing is printed: counting costs as much
	return err
}

// event is one line of a watch as JSON.
type event struct {
	Change   string       `json:"change"`
	Revision int64        `json:"revision"`
	Agent    *listedAgent `json:"agent,omitempty"`
	// Agents counts those that are selected; only of "synced".
	Agents *int `json:"agents,omitempty"`
}

// printEvents prints each change on a line, also one that no column shows.
func (w *fleetWatch) printEvents(_ context.Context, s *agent.Snapshot, c agent.Changes) error {
	e := json.NewEncoder(printableJSON{w.stdout})
	for _, c := range w.changes(c, nil) {
		if err := e.Encode(event{Change: c.what, Revision: s.Revision(), Agent: listed(c.e, time.Now())}); err != nil {
			return err
		}
	}
	if w.began {
		return nil
	}
	w.began = true
	n := len(w.shown)
	return e.Encode(event{Change: "synced", Revision: s.Revision(), Agents: &n})
}
