package main

import (
	"math"
	"slices"
	"time"
)

// figure is one section's result.
type figure struct {
	Name     string    `json:"name"`
	Title    string    `json:"title"`
	Measures []measure `json:"measures,omitempty"`
	Verdicts []verdict `json:"verdicts,omitempty"`
	// Notes say what the numbers above hide.
	Notes []string `json:"notes,omitempty"`
	// Skipped is why there are none.
	Skipped string `json:"skipped,omitempty"`
	// Load is the load average right after the measurement.
	Load string `json:"load,omitempty"`
}

// measure sums up what was measured of one thing.
type measure struct {
	What   string  `json:"what"`
	Unit   string  `json:"unit"`
	N      int     `json:"n"`
	Median float64 `json:"median"`
	P90    float64 `json:"p90"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	// Sum is set for counts.
	Sum *float64 `json:"sum,omitempty"`
}

// verdict is the one number that a figure is about.
type verdict struct {
	What  string  `json:"what"`
	Unit  string  `json:"unit,omitempty"`
	Value float64 `json:"value"`
	// Target is the most that Value may be, Met whether it is; nil for a
	// figure without a target.
	Target *float64 `json:"target,omitempty"`
	Met    *bool    `json:"met,omitempty"`
}

// within compares value with a target.
func within(what, unit string, value, target float64) verdict {
	met := value <= target
	return verdict{What: what, Unit: unit, Value: value, Target: &target, Met: &met}
}

// series is what was measured of one thing, in the order of the samples.
type series struct {
	what, unit string
	samples    []float64
}

func (s *series) add(v float64) { s.samples = append(s.samples, v) }

// addTime keeps a duration in the unit of the series.
func (s *series) addTime(d time.Duration) {
	per := map[string]time.Duration{"µs": time.Microsecond, "ms": time.Millisecond, "s": time.Second}
	s.add(float64(d) / float64(per[s.unit]))
}

// quantile interpolates between the two samples that are nearest.
func (s *series) quantile(q float64) float64 {
	if len(s.samples) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s.samples))
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

func (s *series) median() float64 { return s.quantile(0.5) }

func (s *series) sum() float64 {
	var sum float64
	for _, v := range s.samples {
		sum += v
	}
	return sum
}

func (s *series) measure() measure {
	return measure{
		What: s.what, Unit: s.unit, N: len(s.samples),
		Median: s.median(), P90: s.quantile(0.9), Min: s.quantile(0), Max: s.quantile(1),
	}
}

// count is measure with the sum.
func (s *series) count() measure {
	m, sum := s.measure(), s.sum()
	m.Sum = &sum
	return m
}

func measures(all ...*series) []measure {
	var list []measure
	for _, s := range all {
		list = append(list, s.measure())
	}
	return list
}
