package rollout

import (
	"bytes"
	"strings"
)

// planReader reads a plan that is written again and again, each time with
// another mark: what does not move in the course of a rollout is read and checked
// once. Ten thousand agents hear of each step at once; the less each of them does
// before it starts, the sooner the last one has.
//
// What it returns is what ParsePlan returns: a value is read the short way only if
// it begins with the very bytes that ParsePlan has taken before, which hold all
// that does not move and nothing else, and the rest is what a scan knows.
// Everything else is left to ParsePlan.
type planReader struct {
	fixed []byte // the plan read last, up to what moves; nil = none
	plan  *Plan
}

// read is ParsePlan. The plan may be shared: it is not to be changed.
func (r *planReader) read(data []byte) (*Plan, error) {
	if p := r.short(data); p != nil {
		return p, nil
	}
	r.fixed = nil
	p, err := ParsePlan(data)
	if err != nil {
		return nil, err
	}
	// Members in another order, or written twice under other names, would be
	// another plan with another rest.
	if canonical, err := encode(&p); err == nil && canonical == string(data) {
		r.fixed, r.plan = bytes.Clone(data[:movesFrom(data)]), &p
	}
	return &p, nil
}

// short reads what moves alone; nil if that does not do.
func (r *planReader) short(data []byte) *Plan {
	if len(r.fixed) == 0 || len(data) > MaxPlanBytes || !bytes.HasPrefix(data, r.fixed) {
		return nil
	}
	p := new(Plan)
	*p = *r.plan
	s := scan{data: data, at: len(r.fixed)}
	s.moving(p)
	if s.bad || s.at != len(data) || p.validateMoving() != nil || text("why", p.Why) != nil {
		return nil
	}
	return p
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
