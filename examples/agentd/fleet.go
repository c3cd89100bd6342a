package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/upgrade"
)

func newFleetCommand() *cobra.Command {
	var etcd etcdFlags
	var watch bool
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "List the agents: version, digest, state, health, last upgrade, hold and failure",
		Long: `fleet lists the agents that are registered, which is those that are alive, by
their ids. Of plugins that run it shows how many there are, of others what they
are; the last column has what is out of the ordinary: a hold, a revoked key of what
runs, what an upgrade waits for, and what failed last. -o json has all that is known.
With --watch it prints the list anew after each change, as JSON one line each,
until it is interrupted.`,
		Example: "  agentd fleet --etcd http://127.0.0.1:2379\n  agentd fleet --etcd http://127.0.0.1:2379 --watch -o json",
		Args:    takes(),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := etcd.config()
		if err != nil {
			return err
		}
		directory, err := agent.OpenDirectory(cfg)
		if err != nil {
			return err
		}
		defer func() { _ = directory.Close() }()
		var entries []agent.Entry
		err = etcd.ask(cmd.Context(), func(ctx context.Context) (err error) {
			entries, err = directory.List(ctx)
			return err
		})
		switch {
		case err != nil:
			return err
		case watch:
			return watchFleet(cmd, directory, output)
		case output.json():
			return printJSON(cmd.OutOrStdout(), entries)
		}
		return printFleet(cmd.OutOrStdout(), entries)
	}
	etcd.addTimeout(cmd)
	cmd.Flags().BoolVar(&watch, "watch", false, "stay, and print the list anew after each change")
	return cmd
}

// watchFleet ends with an interrupt, which is no failure, or when nobody
// reads what it prints.
func watchFleet(cmd *cobra.Command, directory *agent.Directory, output *format) error {
	ctx, stop := context.WithCancelCause(cmd.Context())
	defer stop(nil)
	w, before := cmd.OutOrStdout(), ""
	err := directory.Watch(ctx, func(entries []agent.Entry) {
		var text strings.Builder
		var err error
		if output.json() {
			err = json.NewEncoder(&text).Encode(entries)
		} else {
			err = printFleet(&text, entries)
		}
		if err == nil && text.String() != before {
			before = text.String()
			if !output.json() {
				say(w, "%d agents", len(entries))
			}
			_, err = io.WriteString(w, before)
		}
		if err != nil {
			stop(err)
		}
	})
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	if cmd.Context().Err() != nil {
		return nil
	}
	return err
}

func printFleet(w io.Writer, entries []agent.Entry) error {
	if len(entries) == 0 {
		_, err := fmt.Fprintln(w, "no agent is registered")
		return err
	}
	rows := [][]string{{"AGENT", "VERSION", "DIGEST", "STATE", "HEALTH", "CONFIG", "PLUGINS", "UPGRADES", "NOTES"}}
	for _, e := range entries {
		if e.Error != "" && e.Version == "" {
			rows = append(rows, []string{e.ID, "-", "-", "-", "-", "-", "-", "-", oneLine(e.Error)})
			continue
		}
		rows = append(rows, []string{
			e.ID, e.Version, short(e.BinaryDigest), string(e.State.State),
			healthOf(e.Status), configOf(e.Status), pluginsOf(e), upgradesOf(e.Status), notesOf(e, time.Now()),
		})
	}
	return printTable(w, rows)
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
func pluginsOf(e agent.Entry) string {
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
func notesOf(e agent.Entry, now time.Time) string {
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
