package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

// target says which agent a command is for: one that the registry knows, or
// the one of a state directory on this host, which needs no network.
type target struct {
	etcd     etcdFlags
	agent    string
	stateDir string
}

func (t *target) add(cmd *cobra.Command) {
	t.etcd.addOptional(cmd)
	t.etcd.timeoutFlag(cmd)
	cmd.Flags().StringVar(&t.agent, "agent", "", "`id` of the agent in the registry")
	cmd.Flags().StringVar(&t.stateDir, "state-dir", "", "state `directory` of an agent on this host, in place of --etcd and --agent")
}

// host is the agent that a command is for, whichever way it is reached.
type host interface {
	// name says which agent it is, for messages.
	name() string
	// status is what is known of the agent now.
	status(ctx context.Context) (upgrade.Status, error)
	// ask gives a request for an upgrade or a rollback and returns its id.
	ask(ctx context.Context, r upgrade.Request) (string, error)
	// follow tells the progress of what was asked, to its end.
	follow(ctx context.Context, progress func(upgrade.Status)) (upgrade.Status, error)
	// settle has any other request done and returns what is known then.
	settle(ctx context.Context, r upgrade.Request) (upgrade.Status, error)
	close()
}

// open connects to nothing yet. An --etcd beside --state-dir is ignored: in
// an agent's own environment both may be set.
func (t *target) open(cmd *cobra.Command) (host, error) {
	switch {
	case t.agent != "" && t.stateDir != "":
		return nil, usagef("--agent is for an agent in the registry, --state-dir for one on this host: give one of them (or unset %s)", variable("state-dir"))
	case t.stateDir != "":
		return &localHost{dir: t.stateDir}, nil
	case t.agent == "" || len(t.etcd.endpoints) == 0:
		return nil, usagef("%s wants --etcd and --agent, such as --etcd http://127.0.0.1:2379 --agent a1, or on the agent's host --state-dir /var/lib/agentd (or %s)", cmd.CommandPath(), variable("state-dir"))
	}
	directory, err := t.etcd.directory()
	if err != nil {
		return nil, err
	}
	return &registryHost{etcd: &t.etcd, directory: directory, id: t.agent}, nil
}

// exactVersion refuses what is no exact version; what names it for people.
func exactVersion(what, version string) error {
	if _, err := release.ParseVersion(version); err != nil {
		return usagef("%s: %w", what, err)
	}
	return nil
}

// partialPin reads VERSION or VERSION@sha256:DIGEST; no argument is no pin.
func partialPin(args []string) (release.Pin, error) {
	if len(args) == 0 {
		return release.Pin{}, nil
	}
	pin := release.Pin{Version: args[0]}
	_, err := release.ParseVersion(args[0])
	if full, fullErr := release.ParsePin(args[0]); fullErr == nil {
		pin, err = full, nil
	}
	if err != nil {
		return pin, usagef("want VERSION or VERSION@sha256:DIGEST: %w", err)
	}
	return pin, nil
}
