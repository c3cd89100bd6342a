package config

import "testing"

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
		r.wanted(f.Revision, "", f)
		r.wanted(f.Revision, "", f) // seen again, not tried again
		if r.failures[want] != 1 {
			t.Errorf("%+v is counted in %v, want once as %s", f, r.failures, want)
		}
	}
	r.wanted(5, "", nil)
	if len(r.failures) != 4 {
		t.Errorf("a good one is counted in %v", r.failures)
	}
}
