package dispatch

import (
	"fmt"
	"slices"
	"time"

	"github.com/perennial-go/perennial/internal/backoff"
)

// Each of these returns the record that follows r, which stays as it is.

// end is r, finished.
func (r record) end(s *spec, state State, why string) *record {
	at := now()
	r.State, r.Since, r.Finished, r.Error, r.Next = state, at, at, clip(why, maxError), time.Time{}
	ttl := s.ResultTTL
	switch {
	case ttl == 0 && state == Dead:
		ttl = DefaultDeadTTL
	case ttl == 0:
		ttl = DefaultTTL
	}
	r.Expires = at.Add(ttl)
	return &r
}

// assign is r, given to an agent.
func (r record) assign(agent string) *record {
	r.State, r.Since, r.Agent, r.Next = Assigned, now(), agent, time.Time{}
	r.Attempt++
	from := r.Resume.Number + 1
	r.Segments = slices.DeleteFunc(slices.Clone(r.Segments), func(s segment) bool { return s.From >= from })
	if n := len(r.Segments); n == 0 || r.Segments[n-1].Agent != agent {
		r.Segments = append(r.Segments, segment{agent, from})
	}
	return &r
}

// ended is r after a run that its agent told the outcome of.
func (r record) ended(s *spec, o *outcome) *record {
	r.note(o.Ended, o.Error, o.Started)
	r.Resume, r.Last = o.Resume, o.Last
	switch o.Ended {
	case endSucceeded:
		return r.end(s, Succeeded, "")
	case endPermanent:
		r.Failures++
		return r.end(s, Dead, o.Error)
	case endCancelled:
		if r.Cancel != nil {
			return r.end(s, Cancelled, o.Error)
		}
		return r.again(s, o.Error)
	case endExpired:
		return r.end(s, Expired, o.Error)
	case endReleased:
		return r.again(s, o.Error)
	}
	r.Failures++
	if s.Retry.Max < 0 || r.Failures > s.Retry.Max {
		return r.end(s, Dead, o.Error)
	}
	next := r.again(s, o.Error)
	if next.State == Queued {
		next.Next = now().Add(s.Retry.wait(r.Failures))
	}
	return next
}

// wait is how long to wait after so many failures.
func (r Retry) wait(failures int) time.Duration {
	b := backoff.Backoff{Min: r.MinBackoff, Max: r.MaxBackoff}
	var d time.Duration
	for range failures {
		d = b.Next()
	}
	return d
}

// withdrawn is r after its agent was lost, or gave no answer; begun tells
// whether it had begun.
func (r record) withdrawn(s *spec, begun bool, from resume, why string) *record {
	how := endWithdrawn
	if begun {
		how = endLost
		r.Losses++
	}
	r.note(how, why, time.Time{})
	r.Resume, r.Last = from, from
	if r.Losses > MaxLosses {
		return r.end(s, Dead, fmt.Sprintf("its agents were lost %d times while they ran it, the last time: %s", r.Losses, why))
	}
	return r.again(s, why)
}

// again is r, back in the queue, unless somebody has cancelled it or its time
// is over.
func (r record) again(s *spec, why string) *record {
	switch {
	case r.Cancel != nil:
		return r.end(s, Cancelled, "cancelled")
	case s.late():
		return r.end(s, Expired, "its deadline passed: "+why)
	case len(r.Segments) >= maxSegments:
		// The oldest results go, and that is told.
		r.Segments, r.Resume.Cut = slices.Clone(r.Segments[1:]), true
	}
	r.State, r.Since, r.Error, r.Last = Queued, now(), clip(why, maxError), resume{}
	return &r
}

func (s *spec) late() bool { return !s.Deadline.IsZero() && !time.Now().Before(s.Deadline) }

// note adds the run that ends to the history.
func (r *record) note(how, why string, started time.Time) {
	a := Attempt{
		Number: r.Attempt, Agent: r.Agent, Ended: how, Error: clip(why, maxError),
		Assigned: r.Since, Started: started, Finished: now(),
	}
	first := max(len(r.Attempts)+1-maxAttempts, 0)
	r.Attempts = append(slices.Clone(r.Attempts[first:]), a)
}
