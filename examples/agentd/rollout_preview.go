package main

import (
	"fmt"
	"io"

	"github.com/perennial-go/perennial/examples/agentd/internal/rolloutview"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// rolloutPreview is what a rollout would do, as -o json prints it.
type rolloutPreview struct {
	Plan   *rollout.Plan  `json:"plan"`
	Stages []previewStage `json:"stages"`
	// Rest are agents that take part and are in no stage.
	Rest []string `json:"rest"`
	// Obstacles are why it would not be begun without --force.
	Obstacles []string `json:"obstacles"`
	Notes     []string `json:"notes"`
}

// previewStage is a stage and who starts in it, in that order.
type previewStage struct {
	rolloutview.Stage

	Agents []string `json:"agents"`
}

// preview prints who would be in which stage.
func (s *rolloutStart) preview(w io.Writer, c *startCheck) error {
	out := rolloutPreview{Plan: c.plan, Stages: []previewStage{}, Rest: memberIDs(c.rest), Obstacles: notNil(c.obstacles), Notes: notNil(c.notes)}
	for _, stage := range c.stages {
		out.Stages = append(out.Stages, previewStage{stage, memberIDs(stage.Members)})
	}
	if s.output.json() {
		return printJSON(w, out)
	}
	if _, err := fmt.Fprintf(w, "rollout %s would go %s, %s\n", c.plan.ID, oneLine(rolloutview.Course(c.plan)), c.plan.Strategy); err != nil {
		return err
	}
	rows := [][]string{{"STAGE", "AGENTS", "OF", "GATE", "SOAK", "WHO"}}
	for i := range c.stages {
		stage, gate := &c.plan.Stages[i], ""
		if stage.Manual {
			gate = "promote"
		}
		rows = append(rows, []string{
			stage.Name, fmt.Sprint(len(c.stages[i].Members)), fmt.Sprint(c.stages[i].Selected), dash(gate),
			stage.Soak.Duration().String(), dash(idsOfMembers(c.stages[i].Members)),
		})
	}
	if err := printTable(w, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "nothing was begun; with --rollout-id", c.plan.ID, "the same agents come first")
	return err
}

func memberIDs(members []*rollout.Member) []string {
	ids := make([]string, len(members))
	for i, m := range members {
		ids[i] = m.ID
	}
	return ids
}

func notNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
