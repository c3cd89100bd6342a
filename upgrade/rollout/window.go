package rollout

import (
	"fmt"
	"slices"
	"time"
)

// weekdays are the names of Window.Days, in the order of time.Weekday.
func weekdays() []string { return []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} }

// clock is a time of the day in a window.
const clock = "15:04"

// Open reports whether t is in w.
func (w Window) Open(t time.Time) (bool, error) {
	open, _, err := w.at(t)
	return open, err
}

// Next is when w opens the next time after t.
func (w Window) Next(t time.Time) (time.Time, error) {
	_, next, err := w.at(t)
	return next, err
}

// at tells whether w is open at t, and when it opens next. The days are those of
// the calendar of its zone: where clocks are put forward over a time that does
// not exist, it is the time as long after as it would have been.
func (w Window) at(t time.Time) (open bool, next time.Time, err error) {
	from, to, zone, err := w.parse()
	if err != nil {
		return false, time.Time{}, err
	}
	local := t.In(zone)
	// The one that began yesterday may still be open; with one day a week the
	// next is a week away.
	for day := -1; day <= 8; day++ {
		start := time.Date(local.Year(), local.Month(), local.Day()+day, from.Hour(), from.Minute(), 0, 0, zone)
		later := 0
		if !to.After(from) {
			later = 1
		}
		end := time.Date(local.Year(), local.Month(), local.Day()+day+later, to.Hour(), to.Minute(), 0, 0, zone)
		weekday := time.Date(local.Year(), local.Month(), local.Day()+day, 12, 0, 0, 0, time.UTC).Weekday()
		if len(w.Days) > 0 && !slices.Contains(w.Days, weekdays()[weekday]) {
			continue
		}
		if !t.Before(start) && t.Before(end) {
			open = true
		}
		if start.After(t) {
			return open, start, nil
		}
	}
	return open, time.Time{}, nil
}

// parse reads what w says, or reports what is wrong with it.
func (w Window) parse() (from, to time.Time, zone *time.Location, err error) {
	if from, err = time.Parse(clock, w.From); err != nil {
		return from, to, nil, fmt.Errorf("from %.20q: want a time such as 22:00", w.From)
	}
	if to, err = time.Parse(clock, w.To); err != nil {
		return from, to, nil, fmt.Errorf("to %.20q: want a time such as 04:00", w.To)
	}
	for _, d := range w.Days {
		if !slices.Contains(weekdays(), d) {
			return from, to, nil, fmt.Errorf("day %.20q: want one of mon, tue, wed, thu, fri, sat, sun", d)
		}
	}
	if w.Zone == "Local" { // that of whoever reads it
		return from, to, nil, fmt.Errorf("zone %q: want a name of the IANA database such as Europe/Berlin, or none for UTC", w.Zone)
	}
	if zone, err = time.LoadLocation(w.Zone); err != nil {
		return from, to, nil, fmt.Errorf("zone %.60q: want a name of the IANA database such as Europe/Berlin, which this host or program has (package tzdata, or Go's time/tzdata): %w", w.Zone, err)
	}
	return from, to, zone, nil
}

// opening tells whether one of windows is open at t; none is always so. If not,
// it is when the first opens.
func opening(windows []Window, t time.Time) (open bool, next time.Time) {
	if len(windows) == 0 {
		return true, time.Time{}
	}
	for _, w := range windows {
		now, then, err := w.at(t)
		if err != nil {
			continue // Validate has told
		}
		if now {
			return true, time.Time{}
		}
		if next.IsZero() || then.Before(next) {
			next = then
		}
	}
	return false, next
}
