package dispatch

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/perennial-go/perennial/internal/strictjson"
)

// schema is the number that every value carries.
const schema = 1

// Bounds of a value, in bytes, and of its nesting.
const (
	maxValue = 1 << 20
	maxDepth = 6
	// inlinePayload is the largest payload that lies in the task's own value:
	// a dispatcher keeps those in memory.
	inlinePayload = 1 << 10
)

// cancelSuffix is what the request to cancel an assignment adds to its key.
const cancelSuffix = "/cancel"

// spec is a task as it was submitted. It never changes.
type spec struct {
	Schema int `json:"schema"`
	Task
	Submitted time.Time `json:"submitted"`
	// Digest is that of the task as it was asked for.
	Digest string `json:"digest"`
	// PayloadBytes is the size of a payload that lies under a key of its own,
	// that of the task PayloadOf.
	PayloadBytes int    `json:"payload_bytes,omitempty"`
	PayloadOf    string `json:"payload_of,omitempty"`
	// Parent is the task for all agents that this is a run of, on Pinned.
	Parent string `json:"parent,omitempty"`
	Pinned string `json:"pinned,omitempty"`
	// Traceparent is the W3C trace context of the Submit.
	Traceparent string `json:"traceparent,omitempty"`
}

// targets are the agents that a task for all of them goes to.
type targets struct {
	Schema int      `json:"schema"`
	Agents []string `json:"agents"`
}

// record is how far a task has come.
type record struct {
	Schema   int       `json:"schema"`
	State    State     `json:"state"`
	Since    time.Time `json:"since"`
	Agent    string    `json:"agent,omitempty"`
	Attempt  int       `json:"attempt,omitempty"`
	Failures int       `json:"failures,omitempty"`
	Losses   int       `json:"losses,omitempty"`
	Attempts []Attempt `json:"attempts,omitempty"`
	Error    string    `json:"error,omitempty"`
	// Next is when it may be assigned again after a failure.
	Next   time.Time `json:"next,omitzero"`
	Cancel *cancel   `json:"cancel,omitempty"`
	// Resume is where the next run begins, Segments are where the results
	// before that lie.
	Resume   resume    `json:"resume,omitzero"`
	Segments []segment `json:"segments,omitempty"`
	// Last counts the results of a task that is finished.
	Last resume `json:"last,omitzero"`
	// Total and Created count the runs of a task for all agents.
	Total   int   `json:"total,omitempty"`
	Created int   `json:"created,omitempty"`
	Runs    *Runs `json:"runs,omitempty"`
	// Finished and Expires are zero before the end.
	Finished time.Time `json:"finished,omitzero"`
	Expires  time.Time `json:"expires,omitzero"`
}

type cancel struct {
	By string    `json:"by,omitempty"`
	At time.Time `json:"at"`
}

// resume is a point at which a run can go on.
type resume struct {
	// Number is that of the last result before it, Bytes the size of all.
	Number int64  `json:"number,omitempty"`
	Bytes  int64  `json:"bytes,omitempty"`
	Cursor string `json:"cursor,omitempty"`
	// Cut: a result was cut or left out.
	Cut bool `json:"cut,omitempty"`
}

// segment says that the results from a number on, up to the next segment's,
// lie with an agent.
type segment struct {
	Agent string `json:"agent"`
	From  int64  `json:"from"`
}

// assignment is all that an agent needs to run a task.
type assignment struct {
	Schema         int           `json:"schema"`
	Attempt        int           `json:"attempt"`
	Plugin         string        `json:"plugin,omitempty"`
	Capability     string        `json:"capability,omitempty"`
	Version        string        `json:"version,omitempty"`
	Payload        []byte        `json:"payload,omitempty"`
	Resume         resume        `json:"resume,omitzero"`
	Deadline       time.Time     `json:"deadline,omitzero"`
	Timeout        time.Duration `json:"timeout_ns,omitempty"`
	Resumable      bool          `json:"resumable,omitempty"`
	IdempotencyKey string        `json:"idempotency_key,omitempty"`
	// Traceparent is the W3C trace context that the run is part of.
	Traceparent string `json:"traceparent,omitempty"`
}

// claim says which process runs an assignment.
type claim struct {
	Schema   int       `json:"schema"`
	Instance string    `json:"instance"`
	At       time.Time `json:"at"`
}

// resultValue is one result.
type resultValue struct {
	Schema  int       `json:"schema"`
	Attempt int       `json:"attempt"`
	Payload []byte    `json:"payload,omitempty"`
	Cursor  string    `json:"cursor,omitempty"`
	Bytes   int64     `json:"cut_from_bytes,omitempty"`
	At      time.Time `json:"at"`
	// Resume is the last point at which a run can go on, here or before.
	Resume resume `json:"resume,omitzero"`
}

// How a run ended.
const (
	endSucceeded = "succeeded"
	endFailed    = "failed"
	endPermanent = "permanent"
	endCancelled = "cancelled"
	endExpired   = "expired"
	endReleased  = "released"
	// Only a dispatcher says these.
	endLost      = "lost"
	endWithdrawn = "withdrawn"
)

// outcome is how a run ended: the agent's acknowledgement.
type outcome struct {
	Schema int `json:"schema"`
	// Attempt is the assignment's; 0 = the assignment could not be read.
	Attempt  int       `json:"attempt"`
	Instance string    `json:"instance"`
	Ended    string    `json:"ended"`
	Error    string    `json:"error,omitempty"`
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	// Last counts the results that were written; Resume is where another run
	// can go on.
	Last   resume `json:"last,omitzero"`
	Resume resume `json:"resume,omitzero"`
}

// workerValue is what a worker says of itself.
type workerValue struct {
	Schema int `json:"schema"`
	WorkerInfo
}

// pointer leads from an idempotency key to its task.
type pointer struct {
	Schema int    `json:"schema"`
	ID     string `json:"id"`
	Digest string `json:"digest"`
}

// leaderValue says who assigns.
type leaderValue struct {
	Schema int       `json:"schema"`
	ID     string    `json:"id"`
	Since  time.Time `json:"since"`
}

// payloadValue is a payload that lies by itself.
type payloadValue struct {
	Schema  int    `json:"schema"`
	Payload []byte `json:"payload"`
}

// cancelValue asks for the end of an assignment.
type cancelValue struct {
	Schema int `json:"schema"`
}

// encode writes a value of this package's, which always can be.
func encode(v any) (string, error) {
	data, err := json.Marshal(v)
	if err == nil && len(data) > maxValue {
		err = fmt.Errorf("%w: %d bytes as JSON, at most %d can be kept", ErrInvalid, len(data), maxValue)
	}
	return string(data), err
}

// checker is a value that can be damaged.
type checker interface{ check() error }

// decode reads a value of schema 1, and refuses a newer, large or damaged one.
func decode(key string, data []byte, into checker) error {
	f := strictjson.Format{Schema: schema, MaxBytes: maxValue, Depth: maxDepth, Newer: ErrSchema}
	if err := f.Decode(key, data, into); err != nil {
		return err
	}
	if err := into.check(); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// clip bounds an error's text, which a plugin may have made.
func clip(text string) string { return clipTo(text, maxError) }

func clipTo(text string, most int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= most {
		return text
	}
	cut := most - len("…")
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
