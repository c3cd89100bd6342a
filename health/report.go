package health

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// Schema is the version of the Report's JSON form.
const Schema = 1

// Report is the whole health of one process at one time. Lists are sorted by
// name.
type Report struct {
	Schema int       `json:"schema"`
	At     time.Time `json:"at"`
	Live   bool      `json:"live"`
	Ready  bool      `json:"ready"`
	// Starting is true until every check of kind Startup has passed. Releases
	// that know no such checks do not tell it.
	Starting   bool              `json:"starting,omitempty"`
	Checks     []CheckReport     `json:"checks,omitempty"`
	Indicators []IndicatorReport `json:"indicators,omitempty"`
	// Alerts holds what is firing; see Monitor.Alerts for the others.
	Alerts []Alert `json:"alerts,omitempty"`
}

// CheckReport is the last result of a check or the state of a pushed
// condition.
type CheckReport struct {
	Name string `json:"name"`
	Kind Kind   `json:"kind"`
	// OK is false as well while there is no result yet.
	OK bool `json:"ok"`
	// Pushed is true of a condition (Monitor.Set), false of a check.
	Pushed bool `json:"pushed,omitempty"`
	// Error is empty when OK; at most 1 KiB of one line of text.
	Error string `json:"error,omitempty"`
	// Since is when the check became OK or stopped being so.
	Since time.Time `json:"since"`
	// At is when the result came in; zero while there is none. Without one a
	// check of liveness does not count as failed.
	At time.Time `json:"at,omitzero"`
	// Duration is how long the last answer took, in seconds; 0 for a
	// condition.
	Duration float64 `json:"duration_seconds,omitempty"`

	idle bool // it was not run, since another one fails
}

// State is where an indicator stands with its rule, and an alert with it.
type State string

// The states of an alert.
const (
	// Unknown: no value yet, or none can be had (Error says why).
	Unknown State = "unknown"
	// Inactive: not above the threshold.
	Inactive State = "inactive"
	// Pending: above the threshold, not yet for long enough.
	Pending State = "pending"
	// Firing: above the threshold for long enough, and not yet cleared for
	// long enough.
	Firing State = "firing"
	// Resolved: cleared, for less than Rule.ResolvedFor.
	Resolved State = "resolved"
)

// UnmarshalText implements encoding.TextUnmarshaler. It reads what earlier
// releases called "ok" as Inactive.
func (s *State) UnmarshalText(text []byte) error {
	if *s = State(text); *s == "ok" {
		*s = Inactive
	}
	return nil
}

// IndicatorReport is a figure and what its rule makes of it. An indicator with
// two rules appears twice, one with none has no Rule and State Unknown.
type IndicatorReport struct {
	Name string `json:"name"`
	// Value is what was judged last; without a rule, the last sample.
	Value Number `json:"value"`
	// Unit and Help are those of the Indicator; Help is not part of the JSON
	// form.
	Unit string `json:"unit,omitempty"`
	Help string `json:"-"`
	// Basis says what the figure was measured against, such as "cgroup v2
	// /sys/fs/cgroup, limit 512.0 MiB".
	Basis string `json:"basis,omitempty"`
	// At is when the last sample was taken; zero if there was none.
	At        time.Time `json:"at,omitzero"`
	Rule      string    `json:"rule,omitempty"`
	Threshold Number    `json:"threshold"`
	State     State     `json:"state"`
	// Since is when State began.
	Since time.Time `json:"since,omitzero"`
	// Error is that of the last measurement that failed, at ErrorAt; a later At
	// says that it is over.
	Error   string    `json:"error,omitempty"`
	ErrorAt time.Time `json:"error_at,omitzero"`

	failing bool // the last measurement failed
}

// Number is a float64 whose JSON form can be infinite: a finite number is a
// JSON number, the others are the strings "+Inf", "-Inf" and "NaN".
type Number float64

// MarshalJSON implements json.Marshaler.
func (n Number) MarshalJSON() ([]byte, error) {
	f := float64(n)
	switch {
	case math.IsInf(f, 1):
		return []byte(`"+Inf"`), nil
	case math.IsInf(f, -1):
		return []byte(`"-Inf"`), nil
	case math.IsNaN(f):
		return []byte(`"NaN"`), nil
	}
	return json.Marshal(f)
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *Number) UnmarshalJSON(data []byte) error {
	switch string(data) {
	case `"+Inf"`:
		*n = Number(math.Inf(1))
		return nil
	case `"-Inf"`:
		*n = Number(math.Inf(-1))
		return nil
	case `"NaN"`:
		*n = Number(math.NaN())
		return nil
	}
	var f float64
	if err := json.Unmarshal(data, &f); err != nil {
		return fmt.Errorf("number %s: want a JSON number, \"+Inf\", \"-Inf\" or \"NaN\": %w", data, err)
	}
	*n = Number(f)
	return nil
}
