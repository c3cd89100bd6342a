package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/upgrade"
)

// upgradeFlags are the flags of agentd upgrade.
type upgradeFlags struct {
	etcd     etcdFlags
	releases reader
	agent    string
	expect   string
	by       string
	wait     time.Duration
}

func newUpgradeCommand() *cobra.Command {
	var u upgradeFlags
	cmd := &cobra.Command{
		Use:   "upgrade VERSION",
		Short: "Upgrade one agent and follow it to its end",
		Long: `upgrade resolves VERSION in the signed index, pins it by the digest of its
manifest, asks the agent for it, and shows each step until the end. VERSION is
exact: latest, v1 or 1.2 are refused, since they mean another release tomorrow.

Exit code 0 means that the new release passed its probation and was committed.
After anything else the agent runs what it ran before, or, if this command
lost sight of it, agentd fleet tells.`,
		Example: `  agentd upgrade --etcd http://127.0.0.1:2379 --agent a1 \
    --repo https://releases.example.com/agentd --trust release.pub 1.1.0`,
		Args: takes("VERSION"),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		progress := cmd.OutOrStdout()
		if output.json() {
			progress = cmd.ErrOrStderr()
		}
		status, err := u.run(cmd.Context(), args[0], progress)
		if output.json() && status.OrderID != "" {
			err = errors.Join(printJSON(cmd.OutOrStdout(), status), err)
		}
		return err
	}
	u.etcd.addTimeout(cmd)
	u.releases.add(cmd)
	f := cmd.Flags()
	f.StringVar(&u.agent, "agent", "", "`id` of the agent")
	f.StringVar(&u.expect, "expect", "", "do it only if the agent runs this `version`")
	f.StringVar(&u.by, "by", "", "who asks, for the record (default user@host)")
	f.DurationVar(&u.wait, "wait", 30*time.Minute, "how long to follow the upgrade")
	require(cmd, "agent", "a1")
	require(cmd, "repo", "repo")
	require(cmd, "trust", "keys/release.pub")
	return cmd
}

// requester is user@host as far as they can be told.
func requester() string {
	name, host := "unknown", "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}

// run returns nil only if the release was committed.
func (u *upgradeFlags) run(ctx context.Context, version string, w io.Writer) (upgrade.Status, error) {
	if u.by == "" {
		// Looked up here and not as a default: that would cost every start.
		u.by = requester()
	}
	client, err := u.releases.client()
	if err != nil {
		return upgrade.Status{}, err
	}
	pin, err := client.Resolve(ctx, version)
	if err != nil {
		return upgrade.Status{}, err
	}
	say(w, "resolved %s to %s", version, pin)
	cfg, err := u.etcd.config()
	if err != nil {
		return upgrade.Status{}, err
	}
	directory, err := agent.OpenDirectory(cfg)
	if err != nil {
		return upgrade.Status{}, err
	}
	defer func() { _ = directory.Close() }()
	var order agent.Order
	err = u.etcd.ask(ctx, func(ctx context.Context) (err error) {
		order, err = directory.Order(ctx, u.agent, upgrade.Request{Pin: pin, Expect: u.expect, By: u.by})
		return err
	})
	if err != nil {
		return upgrade.Status{}, err
	}
	say(w, "asked %s for it, order %s", u.agent, order.ID)
	return u.follow(ctx, directory, order, w)
}

func (u *upgradeFlags) follow(ctx context.Context, directory *agent.Directory, order agent.Order, w io.Writer) (upgrade.Status, error) {
	limited, cancel := context.WithTimeout(ctx, u.wait)
	defer cancel()
	t := ticker{w: w}
	status, err := directory.Follow(limited, order, u.agent, t.show)
	if err != nil {
		if ctx.Err() == nil && limited.Err() != nil {
			return status, fmt.Errorf("want the end of the upgrade of %s to %s within %v, found it %s: the order stands; see agentd fleet, or follow longer with --wait", u.agent, order.Pin.Version, u.wait, dash(string(status.State)))
		}
		return status, fmt.Errorf("lost sight of the upgrade of %s to %s, the order stands: %w", u.agent, order.Pin.Version, err)
	}
	if status.State != upgrade.Committed {
		return status, fmt.Errorf("want %s on %s, found the upgrade %s and %s running: %s", order.Pin.Version, u.agent, status.State, status.Running.Version, dash(status.Reason))
	}
	return status, nil
}

// ticker prints an upgrade's steps, each once, and its download in tenths.
type ticker struct {
	w     io.Writer
	state upgrade.State
	tenth int64
}

func (t *ticker) show(s upgrade.Status) {
	if s.State != t.state {
		t.state, t.tenth = s.State, 0
		line := string(s.State)
		switch {
		case s.Reason != "":
			line += ": " + s.Reason
		case s.State == upgrade.Committed:
			line += ": " + s.To.Version + " runs"
		case !s.Deadline.IsZero():
			line += ", until " + s.Deadline.Local().Format("15:04:05")
		}
		say(t.w, "%s", line)
		for _, l := range s.Log {
			if strings.TrimSpace(l) != "" {
				say(t.w, "  | %s", l)
			}
		}
	}
	if p := s.Progress; p != nil && p.Total > 0 && p.Done*10/p.Total > t.tenth {
		t.tenth = p.Done * 10 / p.Total
		say(t.w, "%s %d %% of %.1f MiB", s.State, t.tenth*10, float64(p.Total)/(1<<20))
	}
}

// say prints one line with the time; a terminal that has gone is no reason
// to stop.
func say(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, time.Now().Format("15:04:05.000")+" "+format+"\n", args...)
}
