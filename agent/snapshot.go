package agent

import (
	"slices"
	"strings"
)

// Snapshot is all agents at one moment. It does not change, may be kept and
// used concurrently, and so are the entries in it: modify none.
type Snapshot struct {
	revision   int64
	registered int64
	entries    []*Entry // by id
	strays     Strays
	// superseded is closed once there is a newer one.
	superseded chan struct{}
}

func newSnapshot() *Snapshot { return &Snapshot{superseded: make(chan struct{})} }

// Revision is the revision of the store up to which every change is in the
// snapshot. It may hold later ones: registrations, statuses and plugins are
// followed side by side, so what one transaction changed of an agent may show
// in two steps, and where one of the three kinds is quiet Revision stays behind
// for some seconds.
func (s *Snapshot) Revision() int64 { return s.revision }

// Registered is the revision of the store up to which every registration, and
// the end of every other, is in the snapshot: Revision of that kind alone.
func (s *Snapshot) Registered() int64 { return s.registered }

// Len counts the agents.
func (s *Snapshot) Len() int { return len(s.entries) }

// Get returns the agent called id; nil = no live agent has this id.
func (s *Snapshot) Get(id string) *Entry {
	if i, found := s.find(id); found {
		return s.entries[i]
	}
	return nil
}

// List returns the agents that sel selects, by id, in a new slice.
func (s *Snapshot) List(sel Selector) []*Entry {
	if sel.IsZero() {
		return slices.Clone(s.entries)
	}
	var found []*Entry
	for _, e := range s.entries {
		if sel.Matches(e) {
			found = append(found, e)
		}
	}
	return found
}

// Strays are the keys that belong to no agent.
func (s *Snapshot) Strays() Strays { return s.strays }

func (s *Snapshot) find(id string) (int, bool) {
	return slices.BinarySearchFunc(s.entries, id, func(e *Entry, id string) int { return strings.Compare(e.ID, id) })
}

// put sets the entry of id, takes it out if e is nil, and returns what was
// there; only before the snapshot is shown.
func (s *Snapshot) put(id string, e *Entry) (was *Entry) {
	i, found := s.find(id)
	if found {
		was = s.entries[i]
	}
	switch {
	case found && e == nil:
		s.entries = slices.Delete(s.entries, i, i+1)
	case found:
		s.entries[i] = e
	case e != nil:
		s.entries = slices.Insert(s.entries, i, e)
	}
	return was
}

// Changes are what is different between two snapshots, each by id.
type Changes struct {
	Added, Changed []*Entry
	// Removed are the entries as they were last.
	Removed []*Entry
}

// Empty reports whether nothing is different.
func (c Changes) Empty() bool { return len(c.Added)+len(c.Changed)+len(c.Removed) == 0 }

// Since tells what is different from an earlier snapshot of the same Index; nil
// is one without agents. Entries that nothing was written to are not compared
// but by address, so that it costs microseconds.
func (s *Snapshot) Since(old *Snapshot) Changes {
	var c Changes
	var was []*Entry
	if old != nil {
		was = old.entries
	}
	now := s.entries
	for len(was) > 0 || len(now) > 0 {
		switch {
		case len(was) == 0:
			c.Added, now = append(c.Added, now...), nil
		case len(now) == 0:
			c.Removed, was = append(c.Removed, was...), nil
		case was[0] == now[0]:
			was, now = was[1:], now[1:]
		case was[0].ID < now[0].ID:
			c.Removed, was = append(c.Removed, was[0]), was[1:]
		case was[0].ID > now[0].ID:
			c.Added, now = append(c.Added, now[0]), now[1:]
		default:
			c.Changed = append(c.Changed, now[0])
			was, now = was[1:], now[1:]
		}
	}
	return c
}
