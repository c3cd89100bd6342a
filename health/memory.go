package health

import "fmt"

// memory is one measurement.
type memory struct {
	used, limit uint64 // bytes
	source      string // what the limit is of
}

func (m memory) percent() float64 { return 100 * float64(m.used) / float64(m.limit) }

func (m memory) basis() string {
	return fmt.Sprintf("%s, limit %.1f MiB", m.source, float64(m.limit)/(1<<20))
}
