package plugin

import (
	"slices"
	"strings"
)

// What can enforce a limit.
const (
	byCgroup = "cgroup"
	byRlimit = "rlimit"
)

// holdings say limit by limit what enforces it.
type holdings []holding

// holding is one of them; without by, lack says why nothing does.
type holding struct{ limit, by, lack string }

// add notes that limit is enforced by by unless err says why not. A later
// success replaces an earlier failure, not the other way round.
func (h *holdings) add(limit, by string, err error) {
	i := slices.IndexFunc(*h, func(x holding) bool { return x.limit == limit })
	if i < 0 {
		*h = append(*h, holding{limit: limit})
		i = len(*h) - 1
	}
	switch x := &(*h)[i]; {
	case err == nil:
		x.by, x.lack = by, ""
	case x.by == "" && x.lack == "":
		x.lack = err.Error()
	case x.by == "":
		x.lack += "; " + err.Error()
	}
}

// holds reports whether something enforces limit.
func (h *holdings) holds(limit string) bool {
	return slices.ContainsFunc(*h, func(x holding) bool { return x.limit == limit && x.by != "" })
}

// all reports whether every limit is enforced.
func (h *holdings) all() bool {
	return !slices.ContainsFunc(*h, func(x holding) bool { return x.by == "" })
}

// String is "memory by cgroup, cpu not held (why)", "" without limits.
func (h *holdings) String() string {
	parts := make([]string, len(*h))
	for i, x := range *h {
		parts[i] = x.limit + " by " + x.by
		if x.by == "" {
			parts[i] = x.limit + " not held (" + x.lack + ")"
		}
	}
	return strings.Join(parts, ", ")
}
