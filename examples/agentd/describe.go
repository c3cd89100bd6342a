package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/perennial-go/perennial/upgrade"
)

// describeState puts a state directory into words.
func describeState(r upgrade.Report, now time.Time) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
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
	}
	for _, name := range r.Unfinished {
		say("  %s: unfinished, removed at the next start.", name)
	}
	say("A rollback can go to: %s.", versions(r.Retained))
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
	if len(r.Quarantine) == 0 {
		say("Quarantine: %s.", or(r, upgrade.DocumentQuarantine, "empty"))
		return b.String()
	}
	say("Quarantine:")
	for _, q := range r.Quarantine {
		say("  %s (%s): class: %s; failures: %d; refused %s: %s.", q.Version, short(q.Manifest), q.Class, q.Attempts, describeExpiry(q, now), q.Reason)
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

func versions(refs []upgrade.Ref) string {
	var all []string
	for _, r := range refs {
		all = append(all, r.Version)
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
	return strings.Join(parts, ", ")
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
	if a.State == upgrade.Idle {
		return "no upgrade was ever asked for"
	}
	if a.By == upgrade.ByBootGuard {
		return fmt.Sprintf("the boot guard went back from %s to %s at %s (%s): %s", a.To.Version, a.From.Version, stamp(a.Started), a.State, a.Reason)
	}
	if a.Abandoned {
		return fmt.Sprintf("rolled back by %s from %s to %s at %s while no agent ran (order %s, %s)", dash(a.By), a.To.Version, a.From.Version, stamp(a.Started), dash(a.OrderID), a.State)
	}
	text := fmt.Sprintf("the %s from %s to %s, asked for", actionOf(a), a.From.Version, dash(a.To.Version))
	if a.By != "" {
		text += " by " + a.By
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
	if !a.Deadline.IsZero() && !stopped {
		text += ", until " + stamp(a.Deadline) + " at the latest"
	}
	return text
}
