package rollout

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"
)

// planReader reads a plan that is written again and again, each time with
// another mark: what does not move in the course of a rollout is read and checked
// once. Ten thousand agents hear of each step at once; the less each of them does
// before it starts, the sooner the last one has.
//
// What it returns is what ParsePlan returns: a value is read the short way only if
// it begins with the very bytes that ParsePlan has taken before, and the rest
// is, to the byte, what this package writes for what was read from it.
type planReader struct {
	fixed []byte // the plan read last, up to what moves; nil = none
	plan  Plan
}

// moving is the rest of a Plan, from State on.
type moving struct {
	State       State       `json:"state"`
	Why         string      `json:"why,omitempty"`
	Since       time.Time   `json:"since"`
	Instruction Instruction `json:"instruction"`
	Stage       int         `json:"stage"`
	StageSince  time.Time   `json:"stage_since,omitzero"`
	SoakSince   time.Time   `json:"soak_since,omitzero"`
	Promoted    int         `json:"promoted,omitempty"`
	Cursor      Cursor      `json:"cursor"`
	Seq         int64       `json:"seq"`
	History     string      `json:"history,omitempty"`
}

// read is ParsePlan.
func (r *planReader) read(data []byte) (Plan, error) {
	if p, ok := r.short(data); ok {
		return p, nil
	}
	r.fixed = nil
	p, err := ParsePlan(data)
	if err == nil {
		r.fixed, r.plan = bytes.Clone(data[:movesFrom(data)]), p
	}
	return p, err
}

// short reads what moves alone; ok is false if that does not do.
func (r *planReader) short(data []byte) (p Plan, ok bool) {
	rest, same := bytes.CutPrefix(data, r.fixed)
	if !same || len(r.fixed) == 0 || len(data) > MaxPlanBytes {
		return Plan{}, false
	}
	var m moving
	object := append([]byte{'{'}, rest...)
	if json.Unmarshal(object, &m) != nil {
		return Plan{}, false
	}
	if canonical, err := encode(m); err != nil || canonical != string(object) {
		return Plan{}, false
	}
	p = r.plan
	p.State, p.Why, p.Since, p.Instruction, p.Stage = m.State, m.Why, m.Since, m.Instruction, m.Stage
	p.StageSince, p.SoakSince, p.Promoted = m.StageSince, m.SoakSince, m.Promoted
	p.Cursor, p.Seq, p.History = m.Cursor, m.Seq, m.History
	return p, p.validateMoving() == nil && text("why", p.Why) == nil
}

// movesFrom is where in an object, which is valid JSON, the member "state" begins;
// 0 if it has none.
func movesFrom(object []byte) int {
	depth := 0
	for i := 0; i < len(object); i++ {
		switch object[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			end := i + 1
			for ; end < len(object) && object[end] != '"'; end++ {
				if object[end] == '\\' {
					end++
				}
			}
			// A value would be followed by no colon.
			if depth == 1 && strings.HasPrefix(string(object[i:min(end+2, len(object))]), `"state":`) {
				return i
			}
			i = end
		}
	}
	return 0
}
