package etcdkv

import "testing"

// TestViewTellsThatTheStoreIsAnother also where the new one has grown past the
// revision of the last listing: whoever follows must not take a lost store for
// one that somebody has emptied.
func TestViewTellsThatTheStoreIsAnother(t *testing.T) {
	last := newState(1, 10, 100, 100)
	last.reached[last.receiver("")] = 50
	for name, c := range map[string]struct {
		next, last *state
		want       bool
	}{
		"the first":       {newState(1, 10, 100, 100), nil, false},
		"the same":        {newState(1, 50, 100, 100), last, false},
		"back in time":    {newState(1, 20, 100, 100), last, true},
		"another cluster": {newState(2, 60, 100, 100), last, true},
	} {
		if v := c.next.since(c.last); v.Reset != c.want || v.Cluster != c.next.cluster {
			t.Errorf("%s: %+v", name, v)
		}
	}
}
