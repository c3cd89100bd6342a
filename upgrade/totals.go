package upgrade

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

// Outcome is how an attempt ended, as metrics have it.
type Outcome string

// The outcomes of an attempt.
const (
	// OutcomeCommitted: what was asked for runs.
	OutcomeCommitted Outcome = "committed"
	// OutcomeUnchanged: it ran already.
	OutcomeUnchanged Outcome = "unchanged"
	// OutcomeStaged: it was staged, and no more was asked for.
	OutcomeStaged Outcome = "staged"
	// OutcomeRolledBack: a successor was started and was not wanted.
	OutcomeRolledBack Outcome = "rolled_back"
	// OutcomeAbandoned: a release that had been committed was given up, by the
	// boot guard or while no agent ran.
	OutcomeAbandoned Outcome = "abandoned"
	// OutcomeFailed: nothing was started.
	OutcomeFailed Outcome = "failed"
)

// outcome says how a, which has ended, did.
func (a Attempt) outcome() Outcome {
	switch {
	case a.State == Committed && a.From == a.To:
		return OutcomeUnchanged
	case a.State == Committed && a.Action == ActionStage:
		return OutcomeStaged
	case a.State == Committed:
		return OutcomeCommitted
	case a.State == RolledBack && a.Abandoned:
		return OutcomeAbandoned
	case a.State == RolledBack:
		return OutcomeRolledBack
	default:
		return OutcomeFailed
	}
}

// The forms of a download, as metrics have them.
const (
	formPlain  = "plain"
	formZstd   = "zstd"
	formZstdOf = "zstd_delta"
	formBsdiff = "bsdiff_delta"
	formCache  = "cache"
	formOther  = "other"
	formFailed = "failed"
)

// formOf folds release.Fetched.Form, which names the binary that a delta leads
// from.
func formOf(form string) string {
	format, _, delta := strings.Cut(form, " from ")
	switch {
	case form == formPlain, form == formZstd, form == formCache:
		return form
	case delta && format == "zstd":
		return formZstdOf
	case delta && format == "bsdiff":
		return formBsdiff
	default:
		return formOther
	}
}

// totals count what attempts came to, over all processes that were in charge of
// the state directory: they are kept in the journal. A *totals is not changed
// once it can be seen; nil counts nothing yet.
type totals struct {
	// Ended tells how long the attempts took that have ended, Pauses how long
	// no process took connections.
	Ended     map[Outcome]spans     `json:"ended,omitempty"`
	Pauses    map[Outcome]spans     `json:"pauses,omitempty"`
	Downloads map[string]downloaded `json:"downloads,omitempty"`
}

// spans is a distribution of times. Buckets counts those up to each bound, in
// seconds, and above the one before; what is above all is in Count only.
type spans struct {
	Count   uint64            `json:"count"`
	Seconds float64           `json:"seconds"`
	Buckets map[string]uint64 `json:"buckets,omitempty"`
}

// downloaded are the bytes of downloads, and those of the executables that they
// gave.
type downloaded struct {
	Bytes    uint64 `json:"bytes"`
	Obtained uint64 `json:"obtained"`
}

// Bounds of the buckets, in seconds. Others may be added: what was counted by
// earlier ones stays where it is.
func attemptBounds() []float64 { return []float64{1, 5, 15, 30, 60, 120, 300, 900, 3600} }
func pauseBounds() []float64   { return []float64{.001, .005, .02, .1, .5, 1, 2, 5, 10, 30} }

// add returns s with one more.
func (s spans) add(took time.Duration, bounds []float64) spans {
	seconds := max(took.Seconds(), 0) // the clock may have been set back
	s.Count++
	s.Seconds += seconds
	if i, _ := slices.BinarySearch(bounds, seconds); i < len(bounds) {
		s.Buckets = maps.Clone(s.Buckets)
		if s.Buckets == nil {
			s.Buckets = map[string]uint64{}
		}
		s.Buckets[strconv.FormatFloat(bounds[i], 'g', -1, 64)]++
	}
	return s
}

// cumulative returns how many are at most each bound. What was counted by other
// bounds shows at the next one above.
func (s spans) cumulative(bounds []float64) map[float64]uint64 {
	all := make(map[float64]uint64, len(bounds))
	for _, bound := range bounds {
		all[bound] = 0
		for text, n := range s.Buckets {
			if of, err := strconv.ParseFloat(text, 64); err == nil && of <= bound {
				all[bound] += n
			}
		}
	}
	return all
}

// with returns a copy of t after edit.
func (t *totals) with(edit func(*totals)) *totals {
	next := totals{Ended: map[Outcome]spans{}, Pauses: map[Outcome]spans{}, Downloads: map[string]downloaded{}}
	if t != nil {
		maps.Copy(next.Ended, t.Ended)
		maps.Copy(next.Pauses, t.Pauses)
		maps.Copy(next.Downloads, t.Downloads)
	}
	edit(&next)
	return &next
}

// ended counts a, which ends now.
func (t *totals) ended(a Attempt, now time.Time) *totals {
	return t.with(func(t *totals) {
		o := a.outcome()
		t.Ended[o] = t.Ended[o].add(now.Sub(a.Started), attemptBounds())
	})
}

// paused counts a time in which no process took connections.
func (t *totals) paused(o Outcome, took time.Duration) *totals {
	return t.with(func(t *totals) { t.Pauses[o] = t.Pauses[o].add(took, pauseBounds()) })
}

// fetched counts a download that has ended, of an executable of size bytes.
func (t *totals) fetched(got release.Fetched, size int64, failed error) *totals {
	form := formOf(got.Form)
	switch {
	case failed != nil:
		form, size = formFailed, 0
	case got.Form == "":
		return t // it was there already
	}
	return t.with(func(t *totals) {
		d := t.Downloads[form]
		d.Bytes += uint64(max(got.Bytes, 0))
		d.Obtained += uint64(max(size, 0))
		t.Downloads[form] = d
	})
}

// count changes the totals in memory; the next write of the journal keeps them.
// Only who owns the journal calls it.
func (u *Upgrader) count(edit func(*totals) *totals) {
	u.journal.totals = edit(u.journal.totals)
	u.counted.Store(u.journal.totals)
}

// What is taken over of a distribution in a journal is bounded: the journal is
// written again with it, and must not come to be too long to be read.
const (
	maxBuckets = 64
	maxBound   = 32 // bytes of a bucket's bound
)

// parseTotals reads totals of a journal. They decide nothing: what is no sense
// counts as nothing, and must not keep an agent from its journal.
func parseTotals(data json.RawMessage) *totals {
	var read totals
	if len(data) == 0 || json.Unmarshal(data, &read) != nil {
		return nil
	}
	return (*totals)(nil).with(func(t *totals) {
		for _, o := range outcomes() {
			if s := read.Ended[o]; s.sound() {
				t.Ended[o] = s
			}
			if s := read.Pauses[o]; s.sound() {
				t.Pauses[o] = s
			}
		}
		for _, form := range forms() {
			if d, ok := read.Downloads[form]; ok {
				t.Downloads[form] = d
			}
		}
	})
}

// encoded is t as a journal has it; nil where it counts nothing.
func (t *totals) encoded() json.RawMessage {
	if t == nil {
		return nil
	}
	data, err := json.Marshal(t)
	if err != nil { // no number in it is infinite
		return nil
	}
	return data
}

// maxSeconds bounds what is taken over: thirty million years.
const maxSeconds = 1e15

// sound reports whether s can be a distribution.
func (s spans) sound() bool {
	if s.Count == 0 || s.Seconds < 0 || s.Seconds > maxSeconds || len(s.Buckets) > maxBuckets {
		return false
	}
	left := s.Count
	for bound, n := range s.Buckets {
		if n > left || len(bound) > maxBound {
			return false
		}
		left -= n
	}
	return true
}

func outcomes() []Outcome {
	return []Outcome{OutcomeCommitted, OutcomeUnchanged, OutcomeStaged, OutcomeRolledBack, OutcomeAbandoned, OutcomeFailed}
}

func forms() []string {
	return []string{formPlain, formZstd, formZstdOf, formBsdiff, formCache, formOther, formFailed}
}
