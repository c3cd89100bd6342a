package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/perennial-go/perennial/agent"
)

// summaryRows bounds the values of each kind in the table; the rest is counted
// together.
const summaryRows = 10

// summaryKinds is the order of the table.
func summaryKinds() []string {
	return []string{
		agent.BySeverity, agent.ByVersion, agent.ByState, agent.ByHealth, agent.ByConfig, agent.ByUpgrade,
		agent.ByGroup, agent.ByPlatform, agent.ByAlert, agent.ByProblem,
	}
}

// printSummary prints a fleet in one look.
func printSummary(w io.Writer, f *agent.Fleet, output *format) error {
	if output.json() {
		return printJSON(w, f)
	}
	say(w, "%s", counted(f.Agents, "agent"))
	rows := [][]string{{"BY", "VALUE", "AGENTS"}}
	for _, kind := range summaryKinds() {
		all := f.Most(kind)
		rest := f.Others[kind]
		for i, c := range all {
			if i < summaryRows {
				rows = append(rows, []string{kind, c.Value, strconv.Itoa(c.Agents)})
			} else {
				rest += c.Agents
			}
		}
		if rest > 0 {
			rows = append(rows, []string{kind, "others", strconv.Itoa(rest)})
		}
	}
	if f.OverdueCount > 0 {
		rows = append(rows, []string{"status", "overdue", strconv.Itoa(f.OverdueCount)})
	}
	if f.SilentCount > 0 {
		rows = append(rows, []string{"status", "none", strconv.Itoa(f.SilentCount)})
	}
	if err := printTable(w, rows); err != nil || len(f.Worst) == 0 {
		return err
	}
	rows = [][]string{{"AGENT", "VERSION", "WORST"}}
	for _, a := range f.Worst[:min(len(f.Worst), summaryRows)] {
		rows = append(rows, []string{a.ID, dash(a.Version), phrase(a.Severity, a.Worst)})
	}
	_, _ = fmt.Fprintln(w)
	return printTable(w, rows)
}

// withoutTimes is f without what moves by itself, for comparing.
func withoutTimes(f agent.Fleet) *agent.Fleet {
	f.At, f.Revision = time.Time{}, 0
	for _, list := range []*[]agent.FleetAgent{&f.Worst, &f.Overdue, &f.Silent} {
		*list = slices.Clone(*list)
		for i := range *list {
			(*list)[i].Age = 0
		}
	}
	return &f
}

// phraseRunes bounds the worst thing in a table.
const phraseRunes = 72

// phrase is the worst thing of an agent in a cell.
func phrase(s agent.Severity, worst string) string {
	if s == agent.SeverityOK {
		return "-"
	}
	if text := []rune(worst); len(text) > phraseRunes {
		worst = string(text[:phraseRunes-1]) + "…"
	}
	return s.String() + ": " + dash(worst)
}
