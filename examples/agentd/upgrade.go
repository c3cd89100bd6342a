package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

func newUpgradeCommand() *cobra.Command {
	var o order
	var releases chooser
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

The agent is named by --etcd and --agent, or, on its own host and without
etcd, by --state-dir. It refuses if it does not run what it ran when this
command was given (--expect), and puts it off while it is busy (--force). A
release of another program (--name) than the agent runs is not even ordered.

Exit code 0 means that the new release passed its probation and was committed.
After anything else the agent runs what it ran before, or, if this command
lost sight of it, agentd fleet tells.`,
		Example: `  agentd upgrade --etcd http://127.0.0.1:2379 --agent a1 \
    --repo https://releases.example.com/agentd --trust release.pub 1.1.0
  agentd upgrade --state-dir /var/lib/agentd --repo /media/usb/repo --trust release.pub ^1.1.0`,
		Args: takes("VERSION"),
	}
	o.bind(cmd, func(ctx context.Context, args []string, w io.Writer) (upgrade.Request, error) {
		if err := releaseArgument(args[0]); err != nil {
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
		r := upgrade.Request{Action: upgrade.ActionUpgrade, Pin: pin, Program: releases.name}
		if release.IsRange(args[0]) {
			r.Asked = args[0]
		}
		return r, nil
	})
	releases.add(cmd)
	require(cmd, "repo", "repo")
	return cmd
}
