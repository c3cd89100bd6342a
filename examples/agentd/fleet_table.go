package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/upgrade"
)

// fleetTable prints agents.
type fleetTable struct {
	// wide adds columns for what agents are selected by.
	wide bool
}

func (t fleetTable) header() []string {
	header := []string{"AGENT", "VERSION", "STATE", "HEALTH", "CONFIG", "PLUGINS", "UPGRADES", "WORST", "NOTES"}
	if t.wide {
		header = slices.Insert(header, 1, "HOST", "PLATFORM", "DIGEST", "FLEET", "GROUPS", "LABELS")
	}
	return header
}

func (t fleetTable) row(e *agent.Entry) []string {
	worst := phrase(e.Standing(time.Now()))
	row := []string{e.ID, "-", "-", "-", "-", "-", "-", worst, dash(e.Error)}
	if e.Error == "" || e.Version != "" {
		row = []string{
			e.ID, dash(e.Version), dash(string(e.State.State)),
			healthOf(e.Status), configOf(e.Status), pluginsOf(e), upgradesOf(e.Status), worst, notesOf(e, time.Now()),
		}
	}
	if t.wide {
		row = slices.Insert(row, 1, dash(e.Host), dash(e.Platform), short(e.BinaryDigest), dash(e.Fleet), dash(strings.Join(e.Groups, ",")), labelsOf(e))
	}
	return row
}

func (t fleetTable) print(w io.Writer, rows [][]string) error {
	return printTable(w, slices.Insert(rows, 0, t.header()))
}

func labelsOf(e *agent.Entry) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(e.Labels)) {
		all = append(all, key+"="+e.Labels[key])
	}
	return dash(strings.Join(all, ","))
}

func healthOf(s *agent.Status) string {
	if s == nil {
		return "unknown"
	}
	var wrong []string
	for _, c := range s.Health.Checks {
		if !c.OK && c.Kind != health.Informative {
			wrong = append(wrong, c.Name)
		}
	}
	text := "ready"
	switch {
	case !s.Health.Live:
		text = "dead"
	case !s.Health.Ready:
		text = "not ready"
	}
	if len(wrong) > 0 {
		text += " (" + strings.Join(wrong, ", ") + ")"
	}
	for _, a := range s.Health.Alerts {
		text += ", alert " + a.Name
	}
	if s.Upgrade.Yanked != "" {
		text += ", runs a withdrawn release: " + oneLine(s.Upgrade.Yanked)
	}
	return text
}

func configOf(s *agent.Status) string {
	if s == nil || s.Config == nil {
		return "-"
	}
	c := s.Config
	text := fmt.Sprintf("r%d", c.Running)
	if c.Running == 0 {
		text = "default"
	}
	if c.Wanted != c.Running {
		text += fmt.Sprintf(", r%d refused", c.Wanted)
	}
	return text
}

// pluginsOf counts those that run and names the others.
func pluginsOf(e *agent.Entry) string {
	var all []string
	running := 0
	for _, p := range e.Plugins {
		if p.State == plugin.Running {
			running++
			continue
		}
		all = append(all, fmt.Sprintf("%s %s %s", p.Name, p.Version, p.State))
	}
	if running > 0 {
		all = append(all, fmt.Sprintf("%d running", running))
	}
	return oneLine(dash(strings.Join(all, ", ")))
}

// upgradesOf is how the last attempt stands.
func upgradesOf(s *agent.Status) string {
	if s == nil {
		return "-"
	}
	a := s.Upgrade.Attempt
	to := dash(a.To.Version)
	switch {
	case a.State == "" || a.State == upgrade.Idle:
		return "-"
	case a.By == upgrade.ByBootGuard:
		return "gave up " + to
	case a.Abandoned:
		return to + " left by hand"
	case a.Action == upgrade.ActionRollback:
		return fmt.Sprintf("back to %s %s", to, a.State)
	}
	return to + " " + string(a.State)
}

// notesOf is what an operator should know: a hold, what an attempt waits for,
// and what went wrong last, be it an upgrade or the configuration.
func notesOf(e *agent.Entry, now time.Time) string {
	var all []string
	if e.Status != nil {
		all = upgradeNotes(e.Status.Upgrade, now)
		if c := e.Status.Config; c != nil && c.Wanted != c.Running && c.LastFailed != nil {
			all = append(all, fmt.Sprintf("%s r%d: %s", c.LastFailed.Key, c.LastFailed.Revision, c.LastFailed.Reason))
		}
	}
	if e.Error != "" {
		all = append(all, e.Error)
	}
	return oneLine(dash(strings.Join(all, "; ")))
}

func upgradeNotes(s upgrade.Status, now time.Time) []string {
	var all []string
	a, f := s.Attempt, s.LastFailed
	if s.Hold != nil {
		all = append(all, describeHold(s.Hold))
	}
	if p := s.Provenance; p != nil && p.Revoked != nil {
		all = append(all, "runs a release whose key is revoked: "+describeRevoked(*p.Revoked))
	}
	if a.By == upgrade.ByBootGuard {
		all = append(all, "the boot guard went back from "+a.To.Version)
	}
	if !a.State.Terminal() && a.Reason != "" {
		all = append(all, a.Reason)
	}
	if f != nil {
		all = append(all, fmt.Sprintf("release %s%s: %s", f.Version, bracket(f, now), f.Reason))
	}
	failed := a.State.Terminal() && a.State != upgrade.Committed && !a.Abandoned && a.Reason != ""
	if failed && (f == nil || f.Version != a.To.Version) {
		all = append(all, fmt.Sprintf("release %s: %s", dash(a.To.Version), a.Reason))
	}
	return all
}

// bracket tells whether a release that failed is still refused. Releases that
// know no class do not tell.
func bracket(q *upgrade.Quarantined, now time.Time) string {
	if q.Class == "" {
		return ""
	}
	return " (" + string(q.Class) + ", " + describeExpiry(*q, now) + ")"
}
