package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Throttling measures how much a process's group, and those above it, are held
// back by their CPU quotas. It is not for concurrent use.
type Throttling struct {
	root, process string
	last          map[string]periods // by directory
}

// Throttled is what was seen since the measurement before.
type Throttled struct {
	// Percent of the scheduler's periods in which the quota was used up; of
	// the group where that is highest.
	Percent float64
	// Basis says of which group, for people.
	Basis string
}

// periods are the counters of a group.
type periods struct{ all, throttled uint64 }

// NewThrottling measures process, "self" or a pid, with root in front of every
// path.
func NewThrottling(root, process string) *Throttling {
	return &Throttling{root: root, process: process}
}

// Measure returns what happened since the call before; false if that cannot be
// told yet, as at the first call, or since the counters began anew. A kernel
// without cgroups holds nothing back.
func (t *Throttling) Measure() (Throttled, bool, error) {
	if _, err := os.Stat(filepath.Join(t.root, "proc", t.process, "cgroup")); errors.Is(err, fs.ErrNotExist) {
		return Throttled{Basis: "no cgroups"}, true, nil
	}
	g, err := Find(t.root, t.process, "cpu")
	if err != nil {
		return Throttled{}, false, err
	}
	now := map[string]periods{}
	worst, known, anew := Throttled{Basis: "cgroup " + g.Version() + ", no CPU quota"}, false, false
	for dir := range g.Up() {
		p, ok, err := readPeriods(filepath.Join(t.root, dir, "cpu.stat"))
		if err != nil {
			return Throttled{}, false, err
		}
		if !ok {
			continue
		}
		now[dir] = p
		before, seen := t.last[dir]
		if !seen || p.all < before.all || p.throttled < before.throttled {
			anew = true
			continue
		}
		if percent := before.until(p); !known || percent > worst.Percent {
			known = true
			worst = Throttled{percent, fmt.Sprintf("cgroup %s %s, %d of %d periods", g.Version(), dir, p.throttled-before.throttled, p.all-before.all)}
		}
	}
	t.last = now
	return worst, known || !anew, nil
}

func (p periods) until(later periods) float64 {
	if later.all == p.all {
		return 0
	}
	return min(100, 100*float64(later.throttled-p.throttled)/float64(later.all-p.all))
}

// readPeriods returns false for a group that has, and had, no quota.
func readPeriods(name string) (periods, bool, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return periods{}, false, nil // the root of version 2, or without the controller
	}
	if err != nil {
		return periods{}, false, err
	}
	p, ok := parsePeriods(data)
	return p, ok && p.all > 0, nil
}

func parsePeriods(data []byte) (periods, bool) {
	all, ok := Value(data, "nr_periods")
	throttled, ok2 := Value(data, "nr_throttled")
	return periods{all, throttled}, ok && ok2
}
