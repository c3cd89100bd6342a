package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

// describeState puts a state directory into words.
func describeState(r upgrade.Report, now time.Time) string {
	var b strings.Builder
	say := func(format string, args ...any) { b.WriteString(printable(fmt.Sprintf(format, args...)) + "\n") }
	running := "no agent runs on it"
	if r.Running {
		running = "an agent runs on it"
	}
	say("State directory %s: %s.", r.StateDir, running)
	say("Current, which boots next: %s.", r.Current)
	if c := r.ColdStarts; c != nil {
		say("Cold starts of %s without health: %d since %s; after 3 it is given up.", c.Slot, c.Starts, stamp(c.Since))
	}
	say("Slots:")
	for _, s := range r.Slots {
		say("  %s: %s.", s.Name(), describeSlot(s, r.Current))
		if p, ok := r.Provenance[s.Name()]; ok {
			say("    %s.", describeProvenance(p))
			if p.Revoked != nil {
				say("    KEY REVOKED: %s.", describeRevoked(*p.Revoked))
			}
		}
		if why := withdrawnOf(r.Withdrawn, s.Ref); why != "" {
			say("    WITHDRAWN by its publisher: %s.", why)
		}
	}
	for _, name := range r.Unfinished {
		say("  %s: unfinished, removed at the next start.", name)
	}
	say("A rollback can go to: %s.", or(r, upgrade.DocumentWithdrawn, versions(r.Retained, r.Withdrawn)))
	if why := r.Unreadable[upgrade.DocumentTrust]; why != "" {
		say("Revoked keys: %s.", unreadable(why))
	}
	say("Journal: %s.", or(r, upgrade.DocumentJournal, describeAttempt(r.Journal, r.Running)))
	for _, line := range r.Journal.Log {
		if strings.TrimSpace(line) != "" {
			say("  | %s", line)
		}
	}
	if why := r.Unreadable[upgrade.DocumentRequest]; why != "" {
		say("Waiting: %s.", unreadable(why))
	}
	if q := r.Request; q != nil {
		say("Waiting: the %s to %s, asked for by %s (order %s).", q.Action, wanted(q.Pin), dash(q.By), q.ID)
	}
	say("Hold: %s.", or(r, upgrade.DocumentHold, describeHold(r.Hold)))
	if why := r.Unreadable[upgrade.DocumentQuarantine]; why != "" {
		say("Quarantine: %s.", unreadable(why))
		return b.String()
	}
	return b.String() + describeQuarantine(r.Quarantine, now)
}

func describeQuarantine(all []upgrade.Quarantined, now time.Time) string {
	if len(all) == 0 {
		return "Quarantine: empty.\n"
	}
	var b strings.Builder
	b.WriteString("Quarantine:\n")
	for _, q := range all {
		line := fmt.Sprintf("  %s (%s): class: %s; failures: %d; refused %s: %s.", q.Version, short(q.Manifest), q.Class, q.Attempts, describeExpiry(q, now), q.Reason)
		b.WriteString(printable(line) + "\n")
	}
	return b.String()
}

// or is text, or why the document that it is about cannot be read.
func or(r upgrade.Report, d upgrade.Document, text string) string {
	if why := r.Unreadable[d]; why != "" {
		return unreadable(why)
	}
	return text
}

func unreadable(why string) string { return "cannot be read: " + why }

// describeStatus puts what an agent has reported into words.
func describeStatus(name string, s upgrade.Status, now time.Time) string {
	var b strings.Builder
	say := func(format string, args ...any) { b.WriteString(printable(fmt.Sprintf(format, args...)) + "\n") }
	say("Agent %s runs %s.", name, s.Running.Pinned())
	if s.Yanked != "" {
		say("  WITHDRAWN by its publisher: %s.", oneLine(s.Yanked))
	}
	if s.Provenance == nil {
		say("  Where it comes from is not told.")
	} else {
		say("  %s.", describeProvenance(*s.Provenance))
		if key := s.Provenance.Revoked; key != nil {
			say("  KEY REVOKED: %s.", describeRevoked(*key))
		}
	}
	say("A rollback can go to: %s.", versions(s.Retained, s.Withdrawn))
	if s.Staged != nil {
		say("Staged: %s.", versions([]upgrade.Ref{*s.Staged}, s.Withdrawn))
	}
	say("Last attempt: %s.", describeAttempt(s.Attempt, true))
	say("Hold: %s.", describeHold(s.Hold))
	return b.String() + describeQuarantine(s.Quarantine, now)
}

// describeAgent puts the rest of what the registry holds of an agent into words.
func describeAgent(e *agent.Entry) string {
	var b strings.Builder
	say := func(format string, args ...any) { b.WriteString(printable(fmt.Sprintf(format, args...)) + "\n") }
	say("Process: pid %d on %s (%s) since %s, %s since %s: %s.", e.PID, dash(e.Host), dash(e.Platform), stamp(e.Started), e.State.State, stamp(e.State.At), dash(e.State.Reason))
	say("Groups: %s. Labels: %s.", dash(strings.Join(e.Groups, ", ")), labelsOf(e))
	say("Health: %s.", healthOf(e.Status))
	say("Configuration: %s.", configOf(e.Status))
	say("Plugins: %s.", pluginsOf(e))
	return b.String()
}

// withdrawnOf returns why a release was withdrawn, "" if it is offered.
func withdrawnOf(all []upgrade.Withdrawn, ref upgrade.Ref) string {
	for _, w := range all {
		if w.Ref == ref {
			return dash(oneLine(w.Reason))
		}
	}
	return ""
}

func describeRevoked(key release.RevokedKey) string {
	text := key.ID + " signs nothing any more"
	if !key.Since.IsZero() {
		text += ", since " + stamp(key.Since)
	}
	return text + ": " + dash(oneLine(key.Reason))
}

// versions lists releases that a rollback can go to.
func versions(refs []upgrade.Ref, withdrawn []upgrade.Withdrawn) string {
	var all []string
	for _, r := range refs {
		text := r.Pinned()
		if why := withdrawnOf(withdrawn, r); why != "" {
			text += " (withdrawn: " + why + "; only with --allow-withdrawn)"
		}
		all = append(all, text)
	}
	if len(all) == 0 {
		return "nothing, no other release is kept"
	}
	return strings.Join(all, ", ")
}

func describeHold(h *upgrade.Hold) string {
	if h == nil {
		return "not held"
	}
	return fmt.Sprintf("held by %s since %s: %s", dash(h.By), stamp(h.Since), dash(h.Reason))
}

// describeExpiry says until when a release that failed is refused.
func describeExpiry(q upgrade.Quarantined, now time.Time) string {
	switch {
	case q.Until.IsZero():
		return "until it is cleared"
	case !q.Active(now):
		return "no more, expired " + stamp(q.Until)
	}
	return "until " + stamp(q.Until)
}

func describeSlot(s upgrade.Slot, current string) string {
	var parts []string
	if s.Name() == current {
		parts = append(parts, "current")
	}
	if s.Adopted {
		parts = append(parts, "adopted from the installed executable "+stamp(s.Created))
	} else {
		parts = append(parts, "manifest "+short(s.Manifest)+", staged "+stamp(s.Created))
	}
	switch {
	case s.Proven.IsZero():
		parts = append(parts, "not proven")
	case !s.Adopted:
		parts = append(parts, "passed probation "+stamp(s.Proven))
	}
	if !s.Retired.IsZero() {
		parts = append(parts, "replaced "+stamp(s.Retired))
	}
	if s.Staged != nil {
		parts = append(parts, "waits for an upgrade to it until "+stamp(s.Staged.Until))
	} else if !s.Keep.IsZero() {
		parts = append(parts, "kept until "+stamp(s.Keep)+" at least")
	}
	return strings.Join(parts, ", ")
}

// describeProvenance answers which commit, built when, signed by whom, and let
// in by which rule.
func describeProvenance(p upgrade.Provenance) string {
	parts := []string{"commit " + dash(p.Revision), "built " + stamp(p.Created)}
	if p.Go != "" {
		parts[1] += " with " + p.Go
	}
	switch {
	case p.Error != "":
		parts = append(parts, "NOT TO BE TRUSTED: "+p.Error)
	case p.SignedBy == nil:
		parts = append(parts, "installed by other means, so not signed")
	default:
		parts = append(parts, fmt.Sprintf("signed by key %s (%s)", p.SignedBy.Key, dash(p.SignedBy.Comment)))
	}
	return strings.Join(append(parts, describeRules(p.Rollback, p.By, p.AllowedBy)...), ", ")
}

// describeRules tells by what a release runs: the rollback that brought it back,
// if one did, and the upgrade that brought it at first.
func describeRules(c *upgrade.Comeback, by, rule string) (parts []string) {
	if c != nil {
		parts = append(parts, fmt.Sprintf("came back by a rollback from %s at %s, asked for by %s", c.From, stamp(c.At), dash(oneLine(c.By))))
		if c.AllowedBy != "" {
			parts[0] += " and allowed by: " + oneLine(c.AllowedBy)
		}
	}
	switch {
	case rule == "":
	case c != nil:
		parts = append(parts, "brought at first by an upgrade, asked for by "+dash(by), "allowed by: "+oneLine(rule))
	default:
		parts = append(parts, "asked for by "+dash(by), "allowed by: "+oneLine(rule))
	}
	return parts
}

// actionOf names an attempt; older releases recorded upgrades only.
func actionOf(a upgrade.Attempt) upgrade.Action {
	if a.Action == "" {
		return upgrade.ActionUpgrade
	}
	return a.Action
}

// describeAttempt says how an attempt stands, or, where no agent runs that
// could go on with it, stood.
func describeAttempt(a upgrade.Attempt, running bool) string {
	if a.State == "" {
		return "not told"
	}
	if a.State == upgrade.Idle {
		return "no upgrade was ever asked for"
	}
	if a.By == upgrade.ByBootGuard {
		return fmt.Sprintf("the boot guard went back from %s to %s at %s (%s): %s", a.To.Version, a.From.Version, stamp(a.Started), a.State, a.Reason)
	}
	if a.Abandoned {
		return fmt.Sprintf("rolled back by %s from %s to %s at %s while no agent ran (order %s, %s)", dash(a.By), a.To.Version, a.From.Version, stamp(a.Started), dash(a.OrderID), a.State)
	}
	text := fmt.Sprintf("the %s from %s to %s, asked for", actionOf(a), a.From.Pinned(), dash(a.To.Pinned()))
	if a.By != "" {
		text += " by " + a.By
	}
	if a.Asked != "" {
		text += " as " + a.Asked
	}
	text += fmt.Sprintf(" (order %s) %s, ", dash(a.OrderID), stamp(a.Started))
	stopped := !running && !a.State.Terminal()
	if stopped {
		text += fmt.Sprintf("was last recorded as %s at %s; no agent runs, the next start settles it", a.State, stamp(a.Updated))
	} else {
		text += fmt.Sprintf("is %s since %s", a.State, stamp(a.Updated))
	}
	if a.Reason != "" {
		text += ": " + a.Reason
	}
	if a.AllowedBy != "" {
		text += "; allowed by: " + oneLine(a.AllowedBy)
	}
	if !a.Deadline.IsZero() && !stopped {
		text += ", until " + stamp(a.Deadline) + " at the latest"
	}
	return text
}
