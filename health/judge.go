package health

import (
	"math"
	"time"
)

// series is the last sample of an indicator. Monitor.mu guards it.
type series struct {
	value float64
	at    time.Time // zero: no sample
	basis string
}

// judge is a rule with its state. Monitor.mu guards it.
type judge struct {
	rule Rule
	due  time.Time // zero: at once

	folded float64 // of the samples since the last judgement
	fresh  bool    // there was one

	state State
	value float64   // as last judged
	since time.Time // pending or firing: first above
	calm  time.Time // firing: first at or below Clear; zero if it is not
}

func newJudge(r Rule) *judge { return &judge{rule: r, state: Unknown} }

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
func (j *judge) take(s *series, now time.Time) (float64, bool) {
	folded, fresh := j.folded, j.fresh
	j.folded, j.fresh = 0, false
	switch {
	case fresh, j.rule.Fold == Sum:
		return folded, true
	case s == nil || s.at.IsZero():
		return 0, false
	case j.rule.Silence > 0 && now.Sub(s.at) >= j.rule.Silence:
		return math.Inf(1), true
	}
	return s.value, true
}

// decide moves the state by one judgement.
func (j *judge) decide(s *series, now time.Time) {
	value, ok := j.take(s, now)
	if !ok {
		return
	}
	j.value = value
	switch j.state {
	case Firing:
		j.decideFiring(now)
	case Pending:
		j.decideAbove(now)
	case Unknown, OK:
		j.since = now
		j.decideAbove(now)
	}
}

func (j *judge) decideAbove(now time.Time) {
	switch {
	case j.value <= j.rule.Above:
		j.state = OK
	case now.Sub(j.since) >= j.rule.For:
		j.state, j.calm = Firing, time.Time{}
	default:
		j.state = Pending
	}
}

func (j *judge) decideFiring(now time.Time) {
	if j.value > j.rule.Clear {
		j.calm = time.Time{}
		return
	}
	if j.calm.IsZero() {
		j.calm = now
	}
	if now.Sub(j.calm) >= j.rule.KeepFiring {
		j.state = OK
	}
}

func (j *judge) report(s *series) IndicatorReport {
	r := IndicatorReport{
		Name: j.rule.Indicator, Value: Number(j.value),
		Rule: j.rule.Name, Threshold: Number(j.rule.Above), State: j.state,
	}
	if s != nil {
		r.Basis, r.At = s.basis, s.at
		if j.state == Unknown {
			r.Value = Number(s.value)
		}
	}
	return r
}

func (j *judge) alert() Alert {
	return Alert{
		Name: j.rule.Name, Indicator: j.rule.Indicator,
		Value: Number(j.value), Threshold: Number(j.rule.Above), Since: j.since,
	}
}
