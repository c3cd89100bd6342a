package main

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

func newUpgradeCommand() *cobra.Command {
	var o order
	var releases chooser
	var how manner
	cmd := &cobra.Command{
		Use:   "upgrade VERSION|VERSION@sha256:DIGEST|RANGE",
		Short: "Upgrade one agent and follow it to its end",
		Long: `upgrade resolves VERSION in the signed index, pins it by the digest of its
manifest, asks the agent for it, and shows each step until the end. VERSION is
exact: latest, v1 or 1.2 are refused, since they mean another release tomorrow.
VERSION@sha256:DIGEST is refused unless the index lists it so.

RANGE (^1.2.0, ~1.2.3, '>=1.2, <2') is resolved once, here, to the newest
release in it that was not withdrawn; the agent is asked for that pin and never
sees the range, which the order keeps for the record. Pre-releases are taken
only if RANGE names one, or with --prerelease.

--stage has the release downloaded, verified and kept, and not started: an upgrade
to it is then quick, and needs no repository while the index that offered it is
valid. --probation asks for a longer one than the agent is set to; a rollback in that
time is warm. --give-up has the agent itself end the attempt in time.

The agent is named by --etcd and --agent, or, on its own host and without
etcd, by --state-dir. It refuses if it does not run what it ran when this
command was given (--expect), and puts it off while it is busy (--force). A
release of another program (--name) than the agent runs is not even ordered.

Exit code 0 means that the new release passed its probation and was committed, or
with --stage that it is there. After anything else the agent runs what it ran
before, or, if this command lost sight of it, agentd fleet tells.`,
		Example: `  agentd upgrade --etcd http://127.0.0.1:2379 --agent a1 \
    --repo https://releases.example.com/agentd --trust release.pub 1.1.0
  agentd upgrade --state-dir /var/lib/agentd --repo /media/usb/repo --trust release.pub ^1.1.0`,
		Args: takes("VERSION"),
	}
	o.bind(cmd, func(ctx context.Context, args []string, w io.Writer) (upgrade.Request, error) {
		if err := releaseArgument(args[0]); err != nil {
			return upgrade.Request{}, err
		}
		r, err := how.request()
		if err != nil {
			return upgrade.Request{}, err
		}
		client, err := releases.client()
		if err != nil {
			return upgrade.Request{}, err
		}
		pin, err := client.ResolveAny(ctx, args[0], releases.policy)
		if err != nil {
			return upgrade.Request{}, err
		}
		say(w, "resolved %s to %s", args[0], pin)
		r.Pin, r.Program, r.Asked = pin, releases.name, asked(args[0])
		return r, nil
	})
	releases.add(cmd)
	require(cmd, "repo", "repo")
	how.add(cmd)
	return cmd
}

// asked is what is kept for the record of what was asked for.
func asked(text string) string {
	if release.IsRange(text) {
		return text
	}
	return ""
}

// manner says how an upgrade is to go.
type manner struct {
	stage  bool
	bounds upgrade.Request
}

func (m *manner) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&m.stage, "stage", false, "have the release there and do not start it")
	f.DurationVar(&m.bounds.Probation, "probation", 0, "how long at least it is on probation, up to the agent's --probation-limit (default as the agent is set)")
	noVariable(cmd, "probation") // it is the agent's
	f.DurationVar(&m.bounds.GiveUp, "give-up", 0, "how long the agent may take until it has ended the attempt, its way back included (default no limit)")
	f.DurationVar(&m.bounds.Retain, "retain", 0, "how long at least the release before is kept, or with --stage the one that is staged, up to the agent's --retention-limit (default as the agent is set)")
}

// request is one without a release.
func (m *manner) request() (upgrade.Request, error) {
	if m.stage && m.bounds.Probation != 0 {
		return upgrade.Request{}, usagef("--probation is about a start, and --stage starts nothing: leave one out")
	}
	for name, d := range map[string]time.Duration{"probation": m.bounds.Probation, "give-up": m.bounds.GiveUp, "retain": m.bounds.Retain} {
		if d < 0 {
			return upgrade.Request{}, usagef("--%s: want a duration of 0 or more, found %v", name, d)
		}
	}
	r := m.bounds
	r.Action = upgrade.ActionUpgrade
	if m.stage {
		r.Action = upgrade.ActionStage
	}
	return r, nil
}
