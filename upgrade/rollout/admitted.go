package rollout

import (
	"fmt"

	"github.com/perennial-go/perennial/internal/selector"
)

// Admission tells who takes part in a plan and who may start. It does not
// change and may be used concurrently.
type Admission struct {
	plan   *Plan
	all    selector.Selector
	stages []selector.Selector
}

// selectable are the fields of a plan's selectors: what a rollout itself changes
// cannot say who takes part in it.
func selectable() selector.Fields {
	return selector.Fields{"id": {}, "group": {}, "host": {}, "platform": {}}
}

// NewAdmission compiles the selectors of p.
func NewAdmission(p Plan) (*Admission, error) {
	a := &Admission{plan: &p}
	var err error
	if a.all, err = selector.Parse(p.Selector, selectable()); err != nil {
		return nil, fmt.Errorf("plan of fleet %s: %w", p.Fleet, err)
	}
	for i := range p.Stages {
		s, err := selector.Parse(p.Stages[i].Selector, selectable())
		if err != nil {
			return nil, fmt.Errorf("plan of fleet %s, stage %q: %w", p.Fleet, p.Stages[i].Name, err)
		}
		a.stages = append(a.stages, s)
	}
	return a, nil
}

// moved is NewAdmission of p, with what is compiled already where p is the same
// rollout further on, which is not to change any more. a may be nil.
func (a *Admission) moved(p *Plan) (*Admission, error) {
	if a == nil || a.plan.Selector != p.Selector || len(a.plan.Stages) != len(p.Stages) {
		return NewAdmission(*p)
	}
	for i := range p.Stages {
		if a.plan.Stages[i].Selector != p.Stages[i].Selector {
			return NewAdmission(*p)
		}
	}
	return &Admission{plan: p, all: a.all, stages: a.stages}, nil
}

// Selects reports whether the rollout is about m at all.
func (a *Admission) Selects(m *Member) bool { return a.all.Matches(subject{m}) }

// InStage reports whether the selectors of the plan and of the stage take m.
func (a *Admission) InStage(stage int, m *Member) bool {
	return stage < len(a.stages) && a.Selects(m) && a.stages[stage].Matches(subject{m})
}

// Admits reports whether m may follow the plan's instruction now. It depends on
// nothing but the plan and m's ID, Joined, Labels, Groups, Host and Platform.
func (a *Admission) Admits(m *Member) bool {
	if !a.Selects(m) {
		return false
	}
	in := func(stage int) bool { return a.stages[stage].Matches(subject{m}) }
	if a.plan.Instruction.Action == ActRevert {
		in = func(int) bool { return true }
	}
	return a.plan.Cursor.admits(RankOf(a.plan.ID, m.ID), m.Joined, in)
}

// subject shows a member to a selector.
type subject struct{ m *Member }

// Label implements selector.Subject.
func (s subject) Label(key string) (string, bool) {
	value, ok := s.m.Labels[key]
	return value, ok
}

// Field implements selector.Subject.
func (s subject) Field(name string) []string {
	switch name {
	case "id":
		return []string{s.m.ID}
	case "group":
		return s.m.Groups
	case "host":
		return notEmpty(s.m.Host)
	case "platform":
		return notEmpty(s.m.Platform)
	}
	return nil
}

func notEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}
