package dispatch

import "time"

// State says how far a task has come.
type State string

// The states of a task. Running is not written: it is an assigned task that its
// agent has claimed.
const (
	// Queued: it waits to be assigned, see Info.Waiting.
	Queued State = "queued"
	// Assigned: an agent is to run it.
	Assigned State = "assigned"
	// Running: an agent runs it.
	Running State = "running"
	// Spread: a task for all agents, whose runs are not all finished.
	Spread State = "spread"
	// Succeeded: it was done, and is never run again.
	Succeeded State = "succeeded"
	// Dead: it failed for good, its tries are used up, or it was lost too
	// often. The tasks in this state are the dead-letter list.
	Dead State = "dead"
	// Cancelled: somebody has cancelled it.
	Cancelled State = "cancelled"
	// Expired: its deadline has passed.
	Expired State = "expired"
)

// Finished reports whether nothing more happens to a task by itself.
func (s State) Finished() bool {
	switch s {
	case Succeeded, Dead, Cancelled, Expired:
		return true
	default:
		return false
	}
}

// mayBecome is the transition table. Assigned to assigned is a request to
// cancel; spread to spread is the progress of spreading.
func (s State) mayBecome(next State) bool {
	switch s {
	case "":
		return next == Queued || next == Spread
	case Queued:
		return next == Assigned || next == Cancelled || next == Expired || next == Dead
	case Assigned:
		return next == Assigned || next == Queued || next.Finished()
	case Spread:
		return next == Spread || next.Finished()
	case Dead, Cancelled:
		return next == Queued // by Queue.Retry
	default:
		return false
	}
}

// Bounds of what is kept about a task.
const (
	// MaxLosses is how often the agent of a running task may be lost.
	MaxLosses = 10
	// maxAttempts bounds the history of a task.
	maxAttempts = 10
	// maxError bounds an error's text, in bytes.
	maxError = 1 << 10
	// maxSegments bounds in how many places results of one task lie: where it
	// is moved more often, the oldest are deleted.
	maxSegments = 64
)

// Attempt is one run of a task.
type Attempt struct {
	// Number counts assignments from 1. A plugin is told another figure, see
	// plugin.Task.
	Number int    `json:"number"`
	Agent  string `json:"agent"`
	// Ended says how: "succeeded", "failed", "permanent", "cancelled",
	// "expired", "released" (the agent gave it back), "lost" (the agent was
	// lost) or "withdrawn" (before it began).
	Ended    string    `json:"ended"`
	Error    string    `json:"error,omitempty"`
	Assigned time.Time `json:"assigned"`
	// Started is zero where it is not known.
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished"`
}

// Runs counts the runs of a task for all agents.
type Runs struct {
	Total     int `json:"total"`
	Succeeded int `json:"succeeded"`
	Dead      int `json:"dead"`
	Cancelled int `json:"cancelled"`
	Expired   int `json:"expired"`
}

// Info is what is known of a task.
type Info struct {
	// Task is as it was submitted, with its defaults. List leaves the payload
	// out.
	Task
	State State     `json:"state"`
	Since time.Time `json:"since"`
	// Waiting says why a queued task is not assigned.
	Waiting string `json:"waiting,omitempty"`
	// Agent has it, or had it last.
	Agent string `json:"agent,omitempty"`
	// Attempt counts assignments from 1, Failures the runs that failed, Losses those
	// whose agent was lost.
	Attempt  int `json:"attempt"`
	Failures int `json:"failures"`
	Losses   int `json:"losses"`
	// Attempts are the newest 10 that have ended, in their order.
	Attempts []Attempt `json:"attempts,omitempty"`
	// Error is why it is where it is, or why its last run failed.
	Error     string    `json:"error,omitempty"`
	Submitted time.Time `json:"submitted"`
	// Next is when a task that failed may be assigned again.
	Next time.Time `json:"next,omitzero"`
	// CancelledBy says who asked to cancel it, once somebody has.
	CancelledBy string `json:"cancelled_by,omitempty"`
	// Finished is when it ended, Expires when it is collected; zero before.
	Finished time.Time `json:"finished,omitzero"`
	Expires  time.Time `json:"expires,omitzero"`
	// Results counts results that are kept, and their bytes, as of the last run
	// that has ended. Cut: some were cut or left out, being too large.
	Results     int64 `json:"results"`
	ResultBytes int64 `json:"result_bytes"`
	Cut         bool  `json:"cut,omitempty"`
	// Parent is the task for all agents that this is a run of, on Pinned.
	Parent string `json:"parent,omitempty"`
	Pinned string `json:"pinned,omitempty"`
	// Runs counts the runs of a task for all agents, once it has ended; before,
	// Total alone.
	Runs *Runs `json:"runs,omitempty"`
}

// Result is a piece of what a task yielded.
type Result struct {
	// Number counts from 1 over all runs.
	Number int64 `json:"number"`
	// Agent ran it.
	Agent   string `json:"agent"`
	Attempt int    `json:"attempt"`
	Payload []byte `json:"payload"`
	// Cursor is where a run resumes after this result; empty = not here.
	Cursor string `json:"cursor,omitempty"`
	// Bytes is the size of the payload before it was cut; 0 = it was not.
	Bytes int64     `json:"cut_from_bytes,omitempty"`
	At    time.Time `json:"at"`
}
