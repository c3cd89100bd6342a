package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/perennial-go/perennial/agent"
)

// summaryRows bounds the values of each kind in the table; the rest is counted
// together.
const summaryRows = 10

// summary counts agents by what they are.
type summary struct {
	Agents int `json:"agents"`
	// By has for each kind how many agents have which value. An agent with
	// several groups or alerts counts in each.
	By map[string]map[string]int `json:"by"`
}

// summaryKinds is the order of the table.
func summaryKinds() []string {
	return []string{"version", "state", "health", "config", "upgrade", "group", "platform", "alert", "problem"}
}

func newSummary(entries []*agent.Entry) summary {
	s := summary{Agents: len(entries), By: map[string]map[string]int{}}
	for _, e := range entries {
		s.count("version", e.Version)
		s.count("state", string(e.State.State))
		s.count("health", e.HealthState())
		s.count("platform", e.Platform)
		for _, g := range e.Groups {
			s.count("group", g)
		}
		if e.Error != "" {
			s.count("problem", "cannot be read")
		}
		if e.Status == nil {
			continue
		}
		s.count("upgrade", string(e.Status.Upgrade.State))
		for _, a := range e.Status.Health.Alerts {
			s.count("alert", a.Name)
		}
		if c := e.Status.Config; c != nil {
			s.count("config", strconv.FormatInt(c.Running, 10))
			if c.Wanted != c.Running {
				s.count("problem", "refuses configuration "+strconv.FormatInt(c.Wanted, 10))
			}
		}
	}
	return s
}

func (s summary) count(kind, value string) {
	if value == "" {
		return
	}
	if s.By[kind] == nil {
		s.By[kind] = map[string]int{}
	}
	s.By[kind][value]++
}

func (s summary) print(w io.Writer, output *format) error {
	if output.json() {
		return printJSON(w, s)
	}
	say(w, "%d agents", s.Agents)
	rows := [][]string{{"BY", "VALUE", "AGENTS"}}
	for _, kind := range summaryKinds() {
		type counted struct {
			value string
			n     int
		}
		var all []counted
		for value, n := range s.By[kind] {
			all = append(all, counted{value, n})
		}
		slices.SortFunc(all, func(a, b counted) int { return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.value, b.value)) })
		rest := 0
		for i, c := range all {
			if i < summaryRows {
				rows = append(rows, []string{kind, c.value, strconv.Itoa(c.n)})
			} else {
				rest += c.n
			}
		}
		if rest > 0 {
			rows = append(rows, []string{kind, fmt.Sprintf("%d others", len(all)-summaryRows), strconv.Itoa(rest)})
		}
	}
	return printTable(w, rows)
}
