package health

import (
	"math"
	"time"
)

// judge is a rule with its state. Monitor.mu guards it.
type judge struct {
	rule   Rule
	series *series
	due    time.Time // zero: at once

	folded float64 // of the samples since the last judgement
	fresh  bool    // there was one

	state   State
	entered time.Time // when the state began
	value   float64   // as last judged
	judged  time.Time // when; zero: never

	above time.Time     // when the value last went above Above
	held  time.Duration // pending: for how long it has been seen above
	calm  time.Duration // firing: for how long it has been seen at or below Clear; less than 0 if it is not

	fired, resolved time.Time // the last time; zero: never
	count           int
}

func newJudge(r Rule, s *series) *judge { return &judge{rule: r, series: s, state: Unknown, calm: -1} }

func (j *judge) add(value float64) {
	switch {
	case j.rule.Fold == Sum:
		j.folded += value
	case !j.fresh || value > j.folded:
		j.folded = value
	}
	j.fresh = true
}

// take ends the period and returns its value; false: there is none to judge.
func (j *judge) take(now time.Time) (float64, bool) {
	folded, fresh := j.folded, j.fresh
	j.folded, j.fresh = 0, false
	if math.IsNaN(folded) { // the sum of two infinities
		folded = math.Inf(1)
	}
	switch {
	case fresh, j.rule.Fold == Sum:
		return folded, true
	case j.series.at.IsZero():
		return 0, false
	case j.rule.Silence > 0 && now.Sub(j.series.at) >= j.rule.Silence:
		return math.Inf(1), true
	}
	return j.series.value, true
}

// watched is the time since the last judgement that was watched: of a gap, as
// when the process was stopped or its host suspended, no more counts than two
// periods. One value above the threshold before and one after an hour's sleep
// are not an hour above it. One that is a little late or early counts as a
// period: a minute in periods of 30 s is two of them, not three when a timer
// was a millisecond early.
func (j *judge) watched(now time.Time) time.Duration {
	if j.judged.IsZero() {
		return 0
	}
	gap := now.Sub(j.judged)
	if (gap - j.rule.Every).Abs() <= j.rule.Every/10 {
		gap = j.rule.Every
	}
	return min(gap, 2*j.rule.Every)
}

// decide moves the state by one judgement and reports whether the alert fired
// or was resolved by it.
func (j *judge) decide(now time.Time) bool {
	value, ok := j.take(now)
	if !ok {
		return false
	}
	watched := j.watched(now)
	j.value, j.judged = value, now
	if j.state == Firing {
		return j.decideFiring(now, watched)
	}
	switch {
	case value <= j.rule.Above:
		j.rest(now)
		return false
	case j.state != Pending:
		j.above, j.held = now, 0
	default:
		j.held += watched
	}
	if j.held < j.rule.For {
		j.enter(Pending, now)
		return false
	}
	j.enter(Firing, now)
	j.fired, j.resolved, j.calm = now, time.Time{}, -1
	j.count++
	return true
}

func (j *judge) decideFiring(now time.Time, watched time.Duration) bool {
	switch {
	case j.value > j.rule.Clear:
		j.calm = -1
		return false
	case j.calm < 0:
		j.calm = 0
	default:
		j.calm += watched
	}
	return j.calm >= j.rule.KeepFiring && j.end(now)
}

// end resolves an alert that fires, and reports whether there was one.
func (j *judge) end(now time.Time) bool {
	if j.state != Firing {
		return false
	}
	j.resolved = now
	j.rest(now)
	return true
}

// rest is the state of an alert whose value is not above: for a time, that it
// has been.
func (j *judge) rest(now time.Time) {
	if !j.resolved.IsZero() && now.Sub(j.resolved) < j.rule.ResolvedFor {
		j.enter(Resolved, now)
		return
	}
	j.enter(Inactive, now)
}

func (j *judge) enter(state State, now time.Time) {
	if j.state != state {
		j.state, j.entered = state, now
	}
}

func (j *judge) report() IndicatorReport {
	r := j.series.report()
	r.Rule, r.Threshold, r.State, r.Since = j.rule.Name, Number(j.rule.Above), j.state, j.entered
	if j.state != Unknown {
		r.Value = Number(j.value)
	}
	return r
}

func (j *judge) alert() Alert {
	a := Alert{
		Name: j.rule.Name, Indicator: j.rule.Indicator, State: j.state, Severity: j.rule.Severity,
		Summary: j.rule.Summary, Value: Number(j.value), Threshold: Number(j.rule.Above), Unit: j.series.Unit,
		FiredAt: j.fired, ResolvedAt: j.resolved, Count: j.count,
	}
	switch j.state {
	case Pending, Firing:
		a.Since = j.above
	default:
		a.Since = j.entered
	}
	return a
}
