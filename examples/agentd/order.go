package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

// anyVersion is the --expect of those who do not care what runs.
const anyVersion = "any"

// order is what upgrade and rollback have in common: an agent is asked, and
// what it does is followed to the end.
type order struct {
	target
	traces traceFlags
	expect string
	by     string
	force  bool
	wait   time.Duration
}

// bind adds the flags to cmd and has it perform what request makes of the
// arguments.
func (o *order) bind(cmd *cobra.Command, request func(ctx context.Context, args []string, w io.Writer) (upgrade.Request, error)) {
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		progress := cmd.OutOrStdout()
		if output.json() {
			progress = cmd.ErrOrStderr()
		}
		if err := o.check(); err != nil {
			return err
		}
		exported, err := o.traces.open(cmd.Context(), slog.New(slog.DiscardHandler), requester())
		if err != nil {
			return err
		}
		defer exported.close()
		ctx, end := exported.command(cmd.Context(), cmd.CommandPath())
		defer func() { end(err) }()
		h, err := o.open(cmd)
		if err != nil {
			return err
		}
		defer h.close()
		r, err := request(ctx, args, progress)
		if err != nil {
			return err
		}
		r.Traceparent = traceparent(ctx)
		status, err := o.perform(ctx, h, r, progress)
		if output.json() && status.OrderID != "" {
			err = errors.Join(printJSON(cmd.OutOrStdout(), status), err)
		}
		return err
	}
	o.add(cmd)
	o.traces.add(cmd)
	f := cmd.Flags()
	f.StringVar(&o.expect, "expect", "", "do it only if the agent runs this `version`, or version@sha256:digest, or any (default what it runs now)")
	f.StringVar(&o.by, "by", "", "who asks, for the record (default user@host)")
	f.BoolVar(&o.force, "force", false, "do it although the agent is busy, and beyond its budget of starts")
	f.DurationVar(&o.wait, "wait", 30*time.Minute, "how long to follow it")
}

// check refuses an --expect that nothing could ever fulfil.
func (o *order) check() error {
	_, versionErr := release.ParseVersion(o.expect)
	_, pinErr := release.ParsePin(o.expect)
	if o.expect == "" || o.expect == anyVersion || versionErr == nil || pinErr == nil {
		return nil
	}
	return usagef("--expect: want a version such as 1.2.0, that and a digest as in 1.2.0@sha256:DIGEST, or %s, found %q", anyVersion, o.expect)
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

// complete fills in who asks and what is expected to run, and says where a
// rollback leads. Both are looked up here and not as defaults: that would cost
// every start.
func (o *order) complete(ctx context.Context, h host, r upgrade.Request, w io.Writer) (upgrade.Request, error) {
	if r.By, r.Expect, r.Force = o.by, o.expect, o.force; r.By == "" {
		r.By = requester()
	}
	now, err := h.status(ctx)
	if r.Program != "" && now.Program != "" && r.Program != now.Program {
		return r, fmt.Errorf("release %s is of %s, and %s runs %s: nothing was ordered; give the repository of %s and --name %s, or another agent", r.Pin.Version, r.Program, h.name(), now.Program, now.Program, now.Program)
	}
	switch {
	case r.Expect == anyVersion:
		r.Expect = ""
	case r.Expect != "":
	case err != nil:
		return r, err
	default:
		r.Expect = now.Running.Pinned()
	}
	if r.Action == upgrade.ActionRollback && err == nil {
		say(w, "%s", course(h, r, now))
	}
	return r, nil
}

// course says where a rollback leads: without a version that may be forward.
func course(h host, r upgrade.Request, now upgrade.Status) string {
	if r.Pin.IsZero() && now.State == upgrade.Probation {
		return fmt.Sprintf("rollback of %s: it ends the probation of %s, %s stays", h.name(), now.To.Version, dash(now.Running.Version))
	}
	to := wanted(r.Pin)
	if r.Pin.IsZero() && len(now.Retained) > 0 {
		to = now.Retained[0].Version + ", " + to
	}
	return fmt.Sprintf("rollback of %s: from %s to %s", h.name(), dash(now.Running.Version), to)
}

// perform returns nil only if what was asked for was committed.
func (o *order) perform(ctx context.Context, h host, r upgrade.Request, w io.Writer) (upgrade.Status, error) {
	r, err := o.complete(ctx, h, r, w)
	if err != nil {
		return upgrade.Status{}, err
	}
	if local, ok := h.(*localHost); ok && r.Action == upgrade.ActionRollback {
		if report, err := upgrade.Inspect(local.dir); err != nil || !report.Running {
			if err != nil {
				return upgrade.Status{}, err
			}
			return local.rollBack(r, w)
		}
	}
	id, err := h.ask(ctx, r)
	if err != nil {
		return upgrade.Status{}, err
	}
	say(w, "asked %s for it, order %s", h.name(), id)
	status, err := o.follow(ctx, h, r, w)
	if err == nil {
		tellRule(w, status.Attempt)
	}
	return status, err
}

func (o *order) follow(ctx context.Context, h host, r upgrade.Request, w io.Writer) (upgrade.Status, error) {
	limited, cancel := context.WithTimeout(ctx, o.wait)
	defer cancel()
	t := ticker{w: w}
	status, err := h.follow(limited, t.show)
	what := fmt.Sprintf("the %s of %s to %s", r.Action, h.name(), wanted(r.Pin))
	switch {
	case err != nil && ctx.Err() == nil && limited.Err() != nil:
		return status, fmt.Errorf("want the end of %s within %v, found it in state %s: the order stands; see agentd fleet or agentd status, or follow longer with --wait", what, o.wait, dash(string(status.State)))
	case err != nil:
		return status, fmt.Errorf("lost sight of %s, the order stands unless it was replaced: %w", what, err)
	case status.State != upgrade.Committed:
		return status, fmt.Errorf("want %s on %s, found the %s %s and %s running: %s", wanted(r.Pin), h.name(), r.Action, status.State, status.Running.Version, dash(status.Reason))
	}
	return status, nil
}

// wanted puts what a request is about into words.
func wanted(pin release.Pin) string {
	switch {
	case pin.IsZero():
		return "the release before"
	case pin.Digest == "":
		return pin.Version
	}
	return pin.String()
}
