package main

import "testing"

// A judge that never finds anything would call every figure a success.
func TestHistoryTellsWhatWasLostAndWhatWasRunAgain(t *testing.T) {
	const claim, other, outcome, done = "claim/a/t", "claim/b/t", "outcome/a/t", `{"ended":"succeeded"}`
	for name, c := range map[string]struct {
		keys, values []string
		lost, again  int
	}{
		"as it should be":                {[]string{claim, outcome}, []string{"{}", done}, 0, 0},
		"given back, then done":          {[]string{claim, outcome, other, outcome}, []string{"{}", `{"ended":"released"}`, "{}", done}, 0, 0},
		"never done":                     {[]string{claim, outcome}, []string{"{}", `{"ended":"failed"}`}, 1, 0},
		"claimed after the outcome":      {[]string{claim, outcome, other}, []string{"{}", done, "{}"}, 0, 1},
		"acknowledged twice":             {[]string{claim, other, outcome, "outcome/b/t"}, []string{"{}", "{}", done, done}, 0, 1},
		"another task after the outcome": {[]string{claim, outcome, "claim/a/u"}, []string{"{}", done, "{}"}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := &taskHistory{succeeded: map[string]bool{}}
			for i, key := range c.keys {
				h.put(key, []byte(c.values[i]))
			}
			if lost := h.lost([]string{"t"}); lost != c.lost || h.again != c.again {
				t.Errorf("want %d lost and %d again, found %d and %d", c.lost, c.again, lost, h.again)
			}
		})
	}
}
