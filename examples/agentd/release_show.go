package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

// shown is a release, and the agents that run it.
type shown struct {
	*release.Description
	// Agents is nil where no registry was asked.
	Agents []runsIt `json:"agents,omitempty"`
}

// runsIt is an agent that runs a release.
type runsIt struct {
	ID        string `json:"id"`
	Host      string `json:"host"`
	Platform  string `json:"platform"`
	AllowedBy string `json:"allowed_by,omitempty"`
	By        string `json:"by,omitempty"`
	// Rollback is set where it runs by a rollback; AllowedBy and By are then of
	// the upgrade that had brought it before.
	Rollback *upgrade.Comeback `json:"rollback,omitempty"`
	// Installed tells that the same executable runs, but was not put there by
	// an upgrade.
	Installed bool `json:"installed,omitempty"`
}

func newReleaseShowCommand() *cobra.Command {
	var r chooser
	var etcd etcdFlags
	cmd := &cobra.Command{
		Use:   "show VERSION|VERSION@sha256:DIGEST|RANGE",
		Short: "Show where a release comes from, and where it runs",
		Long: `show verifies a release of a repository and tells which commit it is of, when
it was built and of what, who signed it, what it asks of a host, and, with
--etcd, which agents run it and by which rule of their policy each took it, by an
upgrade or back by a rollback.
A RANGE is resolved once, as by release resolve, and what it stands for is told
on standard error.`,
		Example: `  agentd release show --repo repo --trust keys/release.pub 1.1.0
  agentd release show --repo repo --trust keys/release.pub ^1.0.0
  agentd release show --repo repo --trust keys/release.pub --etcd http://127.0.0.1:2379 1.1.0`,
		Args: takes("VERSION"),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, err := r.client()
		if err != nil {
			return err
		}
		which, err := r.exact(cmd.Context(), client, args[0], cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		s := shown{}
		if s.Description, err = client.Describe(cmd.Context(), which); err != nil {
			return err
		}
		if len(etcd.endpoints) > 0 {
			if s.Agents, err = whoRuns(cmd.Context(), &etcd, s.Description); err != nil {
				return err
			}
		}
		if output.json() {
			return printJSON(cmd.OutOrStdout(), s)
		}
		_, err = io.WriteString(cmd.OutOrStdout(), s.text())
		return err
	}
	r.add(cmd)
	require(cmd, "repo", "repo")
	etcd.addOptional(cmd)
	etcd.timeoutFlag(cmd)
	return cmd
}

// whoRuns asks the registry.
func whoRuns(ctx context.Context, etcd *etcdFlags, d *release.Description) ([]runsIt, error) {
	directory, err := etcd.directory()
	if err != nil {
		return nil, err
	}
	defer func() { _ = directory.Close() }()
	var page agent.Page
	err = etcd.ask(ctx, func(ctx context.Context) (err error) {
		page, err = directory.List(ctx, agent.ListOptions{})
		return err
	})
	if err != nil {
		return nil, err
	}
	found := []runsIt{}
	for _, e := range page.Entries {
		if a, ok := runs(e, d); ok {
			found = append(found, a)
		}
	}
	return found, nil
}

// runs reports whether an agent runs the release: put there by an upgrade, or
// the same executable installed by other means.
func runs(e agent.Entry, d *release.Description) (runsIt, bool) {
	a := runsIt{ID: e.ID, Host: e.Host, Platform: e.Platform}
	switch {
	case e.ManifestDigest == d.Pin.Digest:
		if e.Status != nil && e.Status.Upgrade.Provenance != nil {
			p := e.Status.Upgrade.Provenance
			a.AllowedBy, a.By, a.Rollback = p.AllowedBy, p.By, p.Rollback
		}
		return a, true
	case e.ManifestDigest != "":
		return a, false
	}
	for _, p := range d.Manifest.Platforms {
		if p.SHA256 == e.BinaryDigest {
			a.Installed = true
			return a, true
		}
	}
	return a, false
}

func (s shown) text() string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	m := s.Manifest
	say("%s %s", m.Name, s.Pin)
	if s.Yanked != "" {
		say("WITHDRAWN: %s", oneLine(s.Yanked))
	}
	say("Commit: %s.", dash(m.Revision))
	say("Built: %s.", stamp(m.Created))
	say("Signed by: key %s, %q.", s.SignedBy.Key, s.SignedBy.Comment)
	say("Listed in: index %d, issued %s, expires %s.", s.Index.Sequence, stamp(s.Index.Issued), stamp(s.Index.Expires))
	say("Requires: %s.", m.Requires.Demands())
	for _, p := range m.Platforms {
		say("Platform %s: sha256 %s, %d bytes.", p, p.SHA256, p.Size)
		for _, e := range p.Encodings {
			say("  %s encoding: %d bytes.", e.Format, e.Size)
		}
		for _, d := range p.Deltas {
			say("  %s delta from %s: %d bytes.", d.Format, short(d.From), d.Size)
		}
		if p.Build == nil {
			say("  Built of: not told.")
			continue
		}
		say("  Built of: %s with %s, %d modules.", dash(p.Build.Package), p.Build.Go, len(p.Build.Modules))
		if p.Build.Modified {
			say("  The tree had uncommitted changes.")
		}
	}
	for _, k := range slices.Sorted(maps.Keys(m.Annotations)) {
		say("%s: %s", k, m.Annotations[k])
	}
	if s.Agents == nil {
		say("Running on: not asked; give --etcd.")
		return b.String()
	}
	say("Running on: %d agents.", len(s.Agents))
	for _, a := range s.Agents {
		switch {
		case a.Rollback != nil:
			say("  %s on %s (%s): %s.", a.ID, a.Host, a.Platform, strings.Join(describeRules(a.Rollback, a.By, a.AllowedBy), ", "))
		case a.Installed:
			say("  %s on %s (%s): the same executable, installed by other means.", a.ID, a.Host, a.Platform)
		case a.AllowedBy == "":
			say("  %s on %s (%s): the rule that let it in was not recorded.", a.ID, a.Host, a.Platform)
		default:
			say("  %s on %s (%s): asked for by %s; allowed by: %s.", a.ID, a.Host, a.Platform, dash(a.By), a.AllowedBy)
		}
	}
	return b.String()
}
