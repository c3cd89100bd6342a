package rollout

import (
	"strconv"
	"time"
)

// Action is what an instruction asks of an agent.
type Action string

// The actions.
const (
	// ActStage: have the target there, verified, and do not start it.
	ActStage Action = "stage"
	// ActSwitch: run the target.
	ActSwitch Action = "switch"
	// ActRevert: run what ran before. An agent whose probation lasts goes back
	// warm; one that never changed has nothing to do and is done.
	ActRevert Action = "revert"
)

// Instruction is what admitted agents are to do. Another one replaces it whole:
// what an agent has not begun of the former it never begins.
type Instruction struct {
	// Number counts the instructions of a rollout from 1.
	Number int    `json:"number"`
	Action Action `json:"action"`
	// Probation is for how long at least the successor is on probation, so that a
	// revert in that time is warm, in seconds; 0 = as the agent is set.
	Probation Seconds `json:"probation_seconds,omitempty"`
}

// Request names the instruction in the agents' journals and reports.
func (p *Plan) Request() string { return p.ID + "." + strconv.Itoa(p.Instruction.Number) }

// Cursor says who is admitted under the present instruction. A new instruction
// begins with a new one.
//
// An agent that came into the registry after AsOf is late: the controller did
// not know of it when it moved the marks. Were it let in by them, all who come
// back after an outage would start at once. Those who are late are let in by
// Late, in as many steps as need be, and when all are, AsOf moves up.
type Cursor struct {
	// AsOf is the revision of the registry at which the controller counted.
	AsOf int64 `json:"as_of"`
	// Marks are those of the stages, the first first; a stage without one has
	// not begun. Under ActRevert there is one for all agents of the rollout.
	Marks []Mark `json:"marks,omitempty"`
	Late  Late   `json:"late,omitzero"`
	// Unsure: whoever starts reads its own registration before, and does not if
	// that joined later than it knows of, or is not there: it may have been revoked,
	// and then nobody has counted it.
	Unsure bool `json:"unsure,omitempty"`
	// Steps are the last moves with agents who may still be under way, the
	// oldest first, for their deadline.
	Steps []Step `json:"steps,omitempty"`
}

// Mark is how far into a stage agents are admitted.
type Mark struct {
	// Open is false while nobody is admitted.
	Open bool `json:"open,omitempty"`
	// Rank is that of the last agent that is.
	Rank Rank `json:"rank"`
}

// Late is how far agents that are late are admitted.
type Late struct {
	AsOf int64 `json:"as_of,omitempty"`
	Mark Mark  `json:"mark,omitzero"`
}

// Step is a move of the cursor.
type Step struct {
	At     time.Time `json:"at"`
	Agents int       `json:"agents"`
}

// together is how many were let in by the last step, at least one, and no more than
// there may be: times are reckoned from it.
func (c *Cursor) together() int {
	if len(c.Steps) == 0 {
		return 1
	}
	return min(max(1, c.Steps[len(c.Steps)-1].Agents), maxAgents)
}

// passes tells whether rank is at or below the mark.
func (m Mark) passes(rank Rank) bool { return m.Open && rank <= m.Rank }

// counted is the revision at which whoever moved the marks last saw the agents.
func (c *Cursor) counted() int64 { return max(c.AsOf, c.Late.AsOf) }

// recount has whoever joined after revision be late.
func (c *Cursor) recount(revision int64) {
	c.AsOf, c.Late.AsOf = min(c.AsOf, revision), min(c.Late.AsOf, revision)
}

// foreign reports whether p, which lies in etcd since the revision mod, was counted
// in another etcd, or in what this one was before it went back in time: whoever
// joins after that is not late, as far as its cursor tells, and is counted by nobody.
func (p *Plan) foreign(mod int64) bool { return p.Cursor.counted() >= mod }

// admits tells whether an agent with this rank, that joined at this revision, is
// admitted, where in tells of which marks it is.
func (c *Cursor) admits(rank Rank, joined int64, in func(stage int) bool) bool {
	counted := joined <= c.AsOf
	late := joined <= c.Late.AsOf && c.Late.Mark.passes(rank)
	if joined <= 0 || !counted && !late {
		return false
	}
	for stage, mark := range c.Marks {
		if mark.passes(rank) && in(stage) {
			return true
		}
	}
	return false
}
