// Package rolloutview shows a rollout to people: which agents are in which stage,
// and how far each stage is.
package rolloutview

import (
	"cmp"
	"slices"

	"github.com/perennial-go/perennial/upgrade/rollout"
)

// Stage is a stage with the agents that it brings in.
type Stage struct {
	Name string `json:"name"`
	// Selected are the agents that the stage's selectors take, Target the part of
	// them that it is to have admitted, those of earlier stages included.
	Selected int `json:"selected"`
	Target   int `json:"target"`
	// Members are those of Target that no earlier stage admits, in the order in
	// which they start.
	Members []*rollout.Member `json:"-"`

	// What has become of Members.
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
	UnderWay  int `json:"under_way"`
	Waiting   int `json:"waiting"`
	Held      int `json:"held"`
}

// Stages sorts the members of a fleet into the stages of a plan. Rest are those
// that the plan selects and no stage admits.
func Stages(p *rollout.Plan, members []*rollout.Member) (stages []Stage, rest []*rollout.Member, err error) {
	admission, err := rollout.NewAdmission(*p)
	if err != nil {
		return nil, nil, err
	}
	ordered := byRank(p.ID, members)
	taken := map[string]bool{}
	for i := range p.Stages {
		s := Stage{Name: p.Stages[i].Name}
		var selected []*rollout.Member
		for _, m := range ordered {
			if admission.InStage(i, m) {
				selected = append(selected, m)
			}
		}
		s.Selected = len(selected)
		s.Target = min(s.Selected, rollout.Amount{BasisPoints: p.Stages[i].BasisPoints}.Of(s.Selected))
		if p.Strategy == rollout.BlueGreen && i == len(p.Stages)-1 {
			clear(taken) // who has staged switches as well
		}
		for _, m := range selected[:s.Target] {
			if !taken[m.ID] {
				taken[m.ID] = true
				s.Members = append(s.Members, m)
				s.count(p, i, m)
			}
		}
		stages = append(stages, s)
	}
	for _, m := range ordered {
		if admission.Selects(m) && !taken[m.ID] {
			rest = append(rest, m)
		}
	}
	return stages, rest, nil
}

// byRank orders members as a rollout starts them.
func byRank(id string, members []*rollout.Member) []*rollout.Member {
	type ranked struct {
		rank rollout.Rank
		m    *rollout.Member
	}
	all := make([]ranked, len(members))
	for i, m := range members {
		all[i] = ranked{rollout.RankOf(id, m.ID), m}
	}
	slices.SortFunc(all, func(a, b ranked) int { return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.m.ID, b.m.ID)) })
	out := make([]*rollout.Member, len(all))
	for i, r := range all {
		out[i] = r.m
	}
	return out
}

// count adds what m says of the plan's instruction.
func (s *Stage) count(p *rollout.Plan, stage int, m *rollout.Member) {
	switches := p.Strategy == rollout.BlueGreen && stage == len(p.Stages)-1
	stages := p.Strategy == rollout.BlueGreen && !switches
	switch {
	case stages && p.Instruction.Action == rollout.ActSwitch:
		s.Succeeded++ // the switch began when all had staged
		return
	case switches && p.Instruction.Action == rollout.ActStage:
		return
	case m.Report == nil || m.Report.Request != p.Request():
		if m.Held != "" {
			s.Held++
		}
		return
	}
	switch m.Report.State {
	case rollout.ReportDone, rollout.ReportStaged:
		s.Succeeded++
	case rollout.ReportFailed, rollout.ReportRefused:
		s.Failed++
	case rollout.ReportStarted:
		s.UnderWay++
	case rollout.ReportWaiting:
		s.Waiting++
	case rollout.ReportHeld:
		s.Held++
	}
}
