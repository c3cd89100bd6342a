package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"time"
)

// Bounds on what goes into a sample besides its metrics.
const (
	maxProblems   = 50
	maxErrorBytes = 300
	maxLabelBytes = 2048
)

// sample is one record.
type sample struct {
	Time     time.Time `json:"time"`
	Source   string    `json:"source"`
	Host     string    `json:"host"`
	Metrics  []metric  `json:"metrics"`
	Problems []problem `json:"problems,omitempty"`
	// Dropped counts values and problems beyond the limits.
	Dropped int `json:"dropped,omitempty"`

	limit int
}

// metric is one value.
type metric struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	Value  float64           `json:"value"`
}

// problem is what kept a source, or a part of it, from being sampled.
type problem struct {
	Of    string `json:"of"`
	Error string `json:"error"`

	absent bool // nothing is wrong, it is not there
}

// add takes a value; labels are pairs of name and value.
func (s *sample) add(name string, value float64, labels ...string) {
	if len(s.Metrics) >= s.limit || math.IsNaN(value) || math.IsInf(value, 0) {
		s.Dropped++
		return
	}
	m := metric{Name: name, Value: value}
	if len(labels) > 0 {
		m.Labels = make(map[string]string, len(labels)/2)
	}
	for i := 0; i+1 < len(labels); i += 2 {
		m.Labels[labels[i]] = short(labels[i+1], maxLabelBytes)
	}
	s.Metrics = append(s.Metrics, m)
}

// fail takes err, if there is one, as a problem.
func (s *sample) fail(of string, err error) {
	if err == nil {
		return
	}
	if len(s.Problems) >= maxProblems {
		s.Dropped++
		return
	}
	absent := errors.Is(err, fs.ErrNotExist)
	s.Problems = append(s.Problems, problem{Of: of, Error: short(err.Error(), maxErrorBytes), absent: absent})
}

// fault is the first problem with something that is there.
func (s *sample) fault() error {
	for _, p := range s.Problems {
		if !p.absent {
			return fmt.Errorf("%s: %s", p.Of, p.Error)
		}
	}
	return nil
}

func short(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}
