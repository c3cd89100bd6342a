package memory

import "fmt"

// Used is one measurement of what a process may take and of what is taken.
type Used struct {
	// Bytes is the working set: what could not be given back at once.
	Bytes uint64
	// Limit is in bytes, never 0.
	Limit uint64
	// Source says what the limit is of.
	Source string
}

// Percent is what is used of the limit.
func (u Used) Percent() float64 { return 100 * float64(u.Bytes) / float64(u.Limit) }

// Basis says what Percent is of, for people.
func (u Used) Basis() string {
	return fmt.Sprintf("%s, limit %.1f MiB", u.Source, float64(u.Limit)/(1<<20))
}
