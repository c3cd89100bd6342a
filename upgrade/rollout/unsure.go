package rollout

import (
	"slices"
	"strings"
	"time"
)

// An agent whose lease is revoked before its time is gone from the registry and
// does not know so yet. Nobody counts it, and should a mark pass it now it would
// start. So whoever decides remembers for a while who has left: a cursor that lets
// such a one in is unsure, and agents read their own registration before they start
// under it. An agent that did not renew its registration for longer than it is
// remembered does so by itself.
const (
	// Remembered is for how long an Input has to name who left.
	Remembered = vouched + 10*time.Second
	// vouched is less by far more than clocks differ in their rates.
	vouched = 30 * time.Second
)

// doubt notes whether whoever is let in has to make sure that it is counted.
func (d *decision) doubt() error {
	d.p.Cursor.Unsure = d.in.Unwatched
	if d.in.Unwatched || len(d.in.Left) == 0 {
		return nil
	}
	adm, err := d.adm.moved(d.p)
	if err != nil {
		return err
	}
	d.p.Cursor.Unsure = slices.ContainsFunc(d.in.Left, func(m *Member) bool {
		r := m.Report
		ended := r != nil && r.Request == d.request && r.State.Ended()
		return !ended && adm.Admits(m)
	})
	return nil
}

// Departures are who has left the registry lately, for Input: whoever decides shows
// them each Snapshot. The zero value has seen none; they are not safe for concurrent
// use.
type Departures struct {
	since time.Time // that all are seen; zero = not yet
	last  []*Member // of the snapshot before
	left  []departure
}

type departure struct {
	m  *Member // as it was
	at time.Time
}

// See compares the members of a Snapshot with those before. One that has left and
// come back joined anew.
func (d *Departures) See(members []*Member, now time.Time) {
	if d.since.IsZero() {
		d.since = now
	}
	d.left = slices.DeleteFunc(d.left, func(l departure) bool { return now.Sub(l.at) > Remembered })
	rest := members
	for _, m := range d.last {
		for len(rest) > 0 && rest[0] != m && strings.Compare(rest[0].ID, m.ID) < 0 {
			rest = rest[1:]
		}
		if len(rest) > 0 && (rest[0] == m || rest[0].ID == m.ID && rest[0].Joined == m.Joined) {
			continue
		}
		d.left = append(d.left, departure{m, now})
	}
	d.last = members
}

// Tell fills in what a decision has to know of them.
func (d *Departures) Tell(in *Input, now time.Time) {
	in.Unwatched = d.since.IsZero() || now.Sub(d.since) < Remembered
	for _, l := range d.left {
		if now.Sub(l.at) < Remembered {
			in.Left = append(in.Left, l.m)
		}
	}
}
