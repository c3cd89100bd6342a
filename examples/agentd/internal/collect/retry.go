package collect

import (
	"math/rand/v2"
	"time"
)

// retry spaces attempts: the bound doubles from min to max, and each wait is
// evenly distributed between half the bound and the bound.
type retry struct {
	min, max time.Duration
	bound    time.Duration
}

func (r *retry) next() time.Duration {
	r.bound = min(max(2*r.bound, r.min), r.max)
	return r.bound/2 + rand.N(r.bound/2+1)
}

func (r *retry) reset() { r.bound = 0 }
