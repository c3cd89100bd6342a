package dispatch

import (
	"fmt"
	"slices"
	"time"

	"github.com/perennial-go/perennial/internal/backoff"
)

// Each of these returns the record that follows r, which stays as it is.

// end is r, finished.
func (r *record) end(s *spec, state State, why string) *record {
	to := *r
	at := now()
	to.State, to.Since, to.Finished, to.Error, to.Next = state, at, at, clip(why), time.Time{}
	ttl := s.ResultTTL
	switch {
	case ttl == 0 && state == Dead:
		ttl = DefaultDeadTTL
	case ttl == 0:
		ttl = DefaultTTL
	}
	to.Expires = at.Add(ttl)
	return &to
}

// assign is r, given to an agent.
func (r *record) assign(agent string) *record {
	to := *r
	to.State, to.Since, to.Agent, to.Next = Assigned, now(), agent, time.Time{}
	to.Attempt++
	from := to.Resume.Number + 1
	to.Segments = slices.DeleteFunc(slices.Clone(to.Segments), func(s segment) bool { return s.From >= from })
	if n := len(to.Segments); n == 0 || to.Segments[n-1].Agent != agent {
		to.Segments = append(to.Segments, segment{agent, from})
	}
	return &to
}

// ended is r after a run that its agent told the outcome of.
func (r *record) ended(s *spec, o *outcome) *record {
	to := *r
	to.note(o.Ended, o.Error, o.Started)
	to.Resume, to.Last = o.Resume, o.Last
	switch o.Ended {
	case endSucceeded:
		return to.end(s, Succeeded, "")
	case endPermanent:
		to.Failures++
		return to.end(s, Dead, o.Error)
	case endCancelled:
		if to.Cancel != nil {
			return to.end(s, Cancelled, o.Error)
		}
		return to.again(s, o.Error)
	case endExpired:
		return to.end(s, Expired, o.Error)
	case endReleased:
		return to.again(s, o.Error)
	}
	to.Failures++
	if s.Retry.Max < 0 || to.Failures > s.Retry.Max {
		return to.end(s, Dead, o.Error)
	}
	next := to.again(s, o.Error)
	if next.State == Queued {
		next.Next = now().Add(s.Retry.wait(to.Failures))
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
func (r *record) withdrawn(s *spec, begun bool, from resume, why string) *record {
	to := *r
	how := endWithdrawn
	if begun {
		how = endLost
		to.Losses++
	}
	to.note(how, why, time.Time{})
	to.Resume, to.Last = from, from
	if to.Losses > MaxLosses {
		return to.end(s, Dead, fmt.Sprintf("its agents were lost %d times while they ran it, the last time: %s", to.Losses, why))
	}
	return to.again(s, why)
}

// again is r, back in the queue, unless somebody has cancelled it or its time
// is over.
func (r *record) again(s *spec, why string) *record {
	to := *r
	switch {
	case to.Cancel != nil:
		return to.end(s, Cancelled, "cancelled")
	case s.late():
		return to.end(s, Expired, "its deadline passed: "+why)
	case len(to.Segments) >= maxSegments:
		// The oldest results go, and that is told.
		to.Segments, to.Resume.Cut = slices.Clone(to.Segments[1:]), true
	}
	to.State, to.Since, to.Error, to.Last = Queued, now(), clip(why), resume{}
	return &to
}

func (s *spec) late() bool { return !s.Deadline.IsZero() && !time.Now().Before(s.Deadline) }

// note adds the run that ends to the history.
func (r *record) note(how, why string, started time.Time) {
	a := Attempt{
		Number: r.Attempt, Agent: r.Agent, Ended: how, Error: clipTo(why, maxNote),
		Assigned: r.Since, Started: started, Finished: now(),
	}
	first := max(len(r.Attempts)+1-maxAttempts, 0)
	r.Attempts = append(slices.Clone(r.Attempts[first:]), a)
}
