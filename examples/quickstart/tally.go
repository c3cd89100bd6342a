package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// maxFailures is how many failures are kept word for word.
const maxFailures = 20

// tally counts what clients saw.
type tally struct {
	Requests int64 `json:"requests"`
	Failed   int64 `json:"failed"`
	// Refused are the failures in which the connection was refused.
	Refused int64 `json:"refused"`
	Pause   pause `json:"longest_pause"`
	// Versions counts the answers to GET /v1/info by the version in them.
	Versions map[string]int64 `json:"versions,omitempty"`
	Failures []failure        `json:"failures,omitempty"`
}

// pause is a time in which a client got no answer.
type pause struct {
	For    time.Duration `json:"nanoseconds"`
	Client string        `json:"client"`
	Step   string        `json:"step"`
}

// worst keeps the longer of the two.
func (p *pause) worst(other pause) {
	if other.For > p.For {
		*p = other
	}
}

// failure is one request that failed.
type failure struct {
	At     time.Time `json:"at"`
	Client string    `json:"client"`
	Step   string    `json:"step"`
	Error  string    `json:"error"`
}

func (t *tally) fail(f failure, refused bool) {
	t.Failed++
	if refused {
		t.Refused++
	}
	if len(t.Failures) < maxFailures {
		t.Failures = append(t.Failures, f)
	}
}

func (t *tally) saw(version string, n int64) {
	if t.Versions == nil {
		t.Versions = map[string]int64{}
	}
	t.Versions[version] += n
}

func (t *tally) add(other tally) {
	t.Requests += other.Requests
	t.Failed += other.Failed
	t.Refused += other.Refused
	t.Pause.worst(other.Pause)
	for version, n := range other.Versions {
		t.saw(version, n)
	}
	t.Failures = append(t.Failures, other.Failures...)
	slices.SortFunc(t.Failures, func(a, b failure) int { return a.At.Compare(b.At) })
	t.Failures = t.Failures[:min(len(t.Failures), maxFailures)]
}

// versions lists how many answers came from which version.
func (t *tally) versions() string {
	var all []string
	for _, version := range slices.Sorted(maps.Keys(t.Versions)) {
		all = append(all, fmt.Sprintf("%s: %s", version, number(t.Versions[version])))
	}
	return strings.Join(all, ", ")
}
