package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

const (
	responseFile  = "responses.json"
	responseBytes = 512 << 10
	// maxResponses bounds those of a Config and of the file, so that it stays
	// below responseBytes.
	maxResponses = 50
	// responsesTold is how many the status tells.
	responsesTold  = 5
	responseDetail = 200 // bytes
)

// Outcome is how a response ended.
type Outcome string

// The outcomes of a response.
const (
	// ResponseBegun stays where the process ended before the response did.
	ResponseBegun   Outcome = "begun"
	ResponseDone    Outcome = "done"
	ResponseFailed  Outcome = "failed"
	ResponseLimited Outcome = "limited"
	// ResponseUndone: it was in force, and the alert is resolved.
	ResponseUndone Outcome = "undone"
)

// ResponseReport is what became of a Response last.
type ResponseReport struct {
	Alert string `json:"alert"`
	// Action names its plugin as well, such as "restart-plugin:logtail".
	Action  string    `json:"action"`
	Outcome Outcome   `json:"outcome"`
	At      time.Time `json:"at"`
	// Detail is why it failed or was limited; at most 200 bytes.
	Detail string `json:"detail,omitempty"`
}

// responseEntry is what is remembered of one response.
type responseEntry struct {
	ResponseReport
	// Times are when it was begun, those that may still count.
	Times []time.Time `json:"times,omitempty"`
	// InForce is true of what was not undone: the next process may do it again
	// without being limited, see goesOn.
	InForce bool `json:"in_force,omitempty"`
}

// goesOn reports whether of, which is about to be made, only goes on with what a
// process before has begun. A call that has not returned there may be what ended
// the process, and counts again.
func (e *responseEntry) goesOn(of Response) bool {
	return e.InForce && (of.Action != RespondCall || e.Outcome == ResponseDone)
}

func (e *responseEntry) key() string { return e.Alert + "=" + e.Action }

// responseRecord remembers over restarts what alerts led to. What was begun is
// written before it is done: kill -9 in between leaves it counted and undone,
// which is the safe side.
type responseRecord struct {
	path string

	mu      sync.Mutex
	entries []*responseEntry
	// broken is why the file must not be replaced: it cannot be understood, and
	// may be a newer release's. What is remembered is then this process's alone.
	broken error
}

type responseRecordFile struct {
	Schema    int              `json:"schema"`
	Responses []*responseEntry `json:"responses"`
}

func openResponses(stateDir string) *responseRecord {
	r := &responseRecord{path: filepath.Join(stateDir, responseFile)}
	data, err := atomicfile.Read(r.path, responseBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return r
	}
	if err == nil {
		r.entries, err = parseResponses(r.path, data)
	}
	if err != nil {
		r.broken = fmt.Errorf("%w; remove the file if it is damaged", err)
	}
	return r
}

func parseResponses(path string, data []byte) ([]*responseEntry, error) {
	var f responseRecordFile
	if err := decode(path, data, &f); err != nil {
		return nil, err
	}
	if len(f.Responses) > maxResponses {
		return nil, fmt.Errorf("%s has %d responses, at most %d are read", path, len(f.Responses), maxResponses)
	}
	for i, e := range f.Responses {
		if e == nil || e.Alert == "" || e.Action == "" || len(e.Times) > maxResponseLimit {
			return nil, fmt.Errorf("%s: response %d has no alert or action, or more than %d times", path, i, maxResponseLimit)
		}
	}
	return f.Responses, nil
}

// entry returns that of r, a new one if need be. The caller holds the lock.
func (r *responseRecord) entry(of Response) *responseEntry {
	for _, e := range r.entries {
		if e.key() == of.key() {
			return e
		}
	}
	e := &responseEntry{ResponseReport: ResponseReport{Alert: of.Alert, Action: of.what()}}
	r.entries = append(r.entries, e)
	return e
}

// begin counts a response that is about to be made. limited says why it must
// not; err is why that is not on disk.
func (r *responseRecord) begin(of Response, now time.Time) (limited string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entry(of)
	kept := e.Times[:0]
	for _, t := range e.Times {
		if t.After(now) {
			t = now // the clock went back: it counts from here on
		}
		if now.Sub(t) < of.Within {
			kept = append(kept, t)
		}
	}
	e.Times = kept
	if of.Action != RespondRefuseUpgrades && !e.goesOn(of) {
		if len(e.Times) >= of.Limit {
			next := e.Times[len(e.Times)-of.Limit].Add(of.Within)
			return fmt.Sprintf("done %d times within %v; from %s on it may be again", len(e.Times), of.Within, next.UTC().Format(time.RFC3339)), nil
		}
		e.Times = append(e.Times, now.UTC())
	}
	e.InForce = of.lasting()
	e.Outcome, e.At, e.Detail = ResponseBegun, now.UTC(), ""
	return "", r.write(now)
}

// end notes how it ended.
func (r *responseRecord) end(of Response, outcome Outcome, detail string, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entry(of)
	e.Outcome, e.At, e.Detail = outcome, now.UTC(), brief(detail)
	if outcome != ResponseDone {
		e.InForce = false
	}
	return r.write(now)
}

// write replaces the file. What is of no response any more is dropped when it
// cannot limit one that comes back. The caller holds the lock.
func (r *responseRecord) write(now time.Time) error {
	if r.broken != nil {
		return r.broken
	}
	r.entries = slices.DeleteFunc(r.entries, func(e *responseEntry) bool { return now.Sub(e.At) > maxResponseWithin && !e.InForce })
	if over := len(r.entries) - maxResponses; over > 0 {
		slices.SortStableFunc(r.entries, func(a, b *responseEntry) int { return a.At.Compare(b.At) })
		r.entries = slices.Delete(r.entries, 0, over)
	}
	data, err := json.MarshalIndent(responseRecordFile{schema, r.entries}, "", "  ")
	if err == nil {
		err = atomicfile.Write(r.path, append(data, '\n'), 0o600)
	}
	return err
}

// told are those that were made last, the newest first.
func (r *responseRecord) told() []ResponseReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []ResponseReport
	for _, e := range r.entries {
		if e.Outcome != "" {
			all = append(all, e.ResponseReport)
		}
	}
	slices.SortStableFunc(all, func(a, b ResponseReport) int { return b.At.Compare(a.At) })
	return all[:min(len(all), responsesTold)]
}

// brief is text in one line of at most responseDetail bytes.
func brief(text string) string {
	// Nothing becomes less than half as long: what is beyond would be cut off.
	text = printable(text[:min(len(text), 2*responseDetail)])
	if len(text) <= responseDetail {
		return text
	}
	cut := responseDetail - len("…")
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
