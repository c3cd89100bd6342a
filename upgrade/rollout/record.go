package rollout

import "time"

// Record is the value of rollout/<fleet>/history/<rollout>/<seq>: one write of a
// plan. Records are created and never changed; each names the digest of the one
// before, so that one that is missing or was changed shows.
type Record struct {
	Schema  int    `json:"schema"`
	Fleet   string `json:"fleet"`
	Rollout string `json:"rollout"`
	Seq     int64  `json:"seq"`
	// Before is the digest of the record before: "sha256:<hex>" of its value.
	Before string    `json:"before,omitempty"`
	At     time.Time `json:"at"`
	// By is who did it: an operator, or "controller <id>".
	By string `json:"by"`
	// Event is what was done.
	Event Event `json:"event"`
	// Why is the reason in a sentence, with the figures that it was decided on in
	// Figures.
	Why     string  `json:"why,omitempty"`
	Figures Figures `json:"figures"`
	State   State   `json:"state"`
	Stage   int     `json:"stage"`
	// Plan is the whole plan in the first record of a rollout.
	Plan *Plan `json:"plan,omitempty"`
}

// Event is what a Record tells of.
type Event string

// The events.
const (
	EventStarted   Event = "started"
	EventAdmitted  Event = "admitted" // the mark moved
	EventSoaking   Event = "soaking"  // all of the stage have ended, and are to run well for a while
	EventStage     Event = "stage"    // a stage passed, the next begins
	EventPaused    Event = "paused"
	EventResumed   Event = "resumed"
	EventPromoted  Event = "promoted"
	EventHalted    Event = "halted"
	EventReverting Event = "reverting"
	EventReverted  Event = "reverted"
	EventAborted   Event = "aborted"
	EventCompleted Event = "completed"
	EventSwitched  Event = "switched" // blue-green
	EventReplaced  Event = "replaced" // by another rollout
	// EventRecounted: the plan came from another etcd, or from before this one went
	// back in time, so that its agents were counted anew.
	EventRecounted Event = "recounted"
	// EventFrozen and EventUnfrozen are in the chain of the brake, whose records
	// have "freeze" for a rollout.
	EventFrozen   Event = "frozen"
	EventUnfrozen Event = "unfrozen"
)

// Figures count the agents of a rollout by what became of them.
type Figures struct {
	// Agents are those that the rollout is about and that are in the registry or
	// are under way, Target those that the present stage is to have admitted.
	Agents int `json:"agents"`
	Target int `json:"target"`
	// Admitted are those that the marks admit: they are Waiting, UnderWay,
	// Succeeded, Failed, Silent, Gone or Held.
	Admitted  int `json:"admitted"`
	Waiting   int `json:"waiting"`
	UnderWay  int `json:"under_way"`
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
	// Silent took longer than the deadline; they count as failed.
	Silent int `json:"silent"`
	// Gone left the registry for what does not seem to be the rollout's doing:
	// they count neither way.
	Gone int `json:"gone"`
	// Held were kept out by their operators.
	Held int `json:"held"`
	// Late are not admitted yet, since they came after the mark had passed.
	Late int `json:"late"`
	// Unavailable counts against MaxUnavailable.
	Unavailable int `json:"unavailable"`
	// Rate is the percentage of those that ended which succeeded, 0 of none.
	Rate float64 `json:"success_percent"`
}

// Freeze is the value of freeze/<fleet>: while it is there no agent starts what
// a plan brings, and no mark moves. Reverts go on, unless Reverts.
type Freeze struct {
	Schema  int       `json:"schema"`
	By      string    `json:"by,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	At      time.Time `json:"at"`
	Reverts bool      `json:"reverts,omitempty"`
}
