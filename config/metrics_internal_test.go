package config

import (
	"testing"
	"time"
)

// TestFailureIsCountedByWhoIsToBlame: a document that is bad is for who wrote it,
// the others for who wrote the program.
func TestFailureIsCountedByWhoIsToBlame(t *testing.T) {
	r := &reporter{}
	for want, f := range map[string]*Failure{
		reasonInvalid: {Revision: 1},
		reasonRefused: {Revision: 2, Subscriber: "pool"},
		reasonHanging: {Revision: 3, Subscriber: "pool", hanging: true},
		reasonCrashed: {Revision: 4, crashed: true},
	} {
		r.refused(f)
		r.refused(f) // seen again, not tried again
		if r.failures[want] != 1 {
			t.Errorf("%+v is counted in %v, want once as %s", f, r.failures, want)
		}
	}
	r.running([]document{{Revision: 5}}, OriginEtcd, time.Now(), true, true)
	if len(r.failures) != 4 || r.applied != 1 {
		t.Errorf("a good one is counted in %v", r.failures)
	}
}
