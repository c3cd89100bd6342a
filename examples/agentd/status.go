package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade"
)

func newStatusCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Explain a state directory: slots, current, journal, quarantine",
		Long: `status reads the state directory of an agent on this host, running or not,
and says in words what is in it. It changes nothing and needs no etcd.`,
		Example: "  agentd status --state-dir /var/lib/agentd",
		Args:    takes(),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		report, err := upgrade.Inspect(dir)
		if err != nil {
			return err
		}
		if output.json() {
			return printJSON(cmd.OutOrStdout(), report)
		}
		_, err = io.WriteString(cmd.OutOrStdout(), describeState(report))
		return err
	}
	cmd.Flags().StringVar(&dir, "state-dir", "", "state `directory` of the agent")
	require(cmd, "state-dir", "/var/lib/agentd")
	return cmd
}

// describeState puts a state directory into words.
func describeState(r upgrade.Report) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	running := "no agent runs on it"
	if r.Running {
		running = "an agent runs on it"
	}
	say("State directory %s: %s.", r.StateDir, running)
	say("Current, which boots next: %s.", r.Current)
	say("Slots:")
	for _, s := range r.Slots {
		say("  %s: %s.", s.Name(), describeSlot(s, r.Current))
	}
	for _, name := range r.Unfinished {
		say("  %s: unfinished, removed at the next start.", name)
	}
	say("Journal: %s.", describeAttempt(r.Journal))
	for _, line := range r.Journal.Log {
		if strings.TrimSpace(line) != "" {
			say("  | %s", line)
		}
	}
	if len(r.Quarantine) == 0 {
		say("Quarantine: empty.")
		return b.String()
	}
	say("Quarantine:")
	for _, q := range r.Quarantine {
		until := "for good: publish it fixed, under a new version"
		if !q.Until.IsZero() {
			until = "until " + stamp(q.Until)
		}
		say("  %s (%s): failures: %d; kept out %s: %s.", q.Version, short(q.Manifest), q.Attempts, until, q.Reason)
	}
	return b.String()
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
		parts = append(parts, "never passed probation")
	case !s.Adopted:
		parts = append(parts, "passed probation "+stamp(s.Proven))
	}
	if !s.Retired.IsZero() {
		parts = append(parts, "replaced "+stamp(s.Retired)+" and kept for a rollback")
	}
	return strings.Join(parts, ", ")
}

func describeAttempt(a upgrade.Attempt) string {
	if a.State == upgrade.Idle {
		return "no upgrade was ever asked for"
	}
	text := fmt.Sprintf("the upgrade from %s to %s, asked for", a.From.Version, a.To.Version)
	if a.By != "" {
		text += " by " + a.By
	}
	text += fmt.Sprintf(" (order %s) %s, is %s since %s", dash(a.OrderID), stamp(a.Started), a.State, stamp(a.Updated))
	if a.Reason != "" {
		text += ": " + a.Reason
	}
	return text
}
