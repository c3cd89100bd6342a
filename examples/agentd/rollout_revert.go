package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// rolloutRevert is what agentd rollout revert was called with.
type rolloutRevert struct {
	rolloutFlags
	releases reader
	who      actFlags
	to       string
	force    bool
	past     bool
	wait     time.Duration
}

func newRolloutRevertCommand() *cobra.Command {
	var r rolloutRevert
	cmd := &cobra.Command{
		Use:   "revert",
		Short: "Bring the agents of a rollout back",
		Long: `revert brings the agents of the fleet's rollout back to what each of them ran before,
or to the release --to, also after the rollout has completed. It goes the way that the
rollout went: windows and gates do not hold it up, agents on probation go back warm,
others start the release that they have kept. A rollout of a configuration goes back to
the document that was published when it began; where none was, to none.

Before it begins it is checked that each agent has kept the release that it is to go
back to. With --repo and --trust one that the repository offers counts as well: agents
fetch it from the repository that they know, where they run with --allow-older. --force
begins it all the same.

It takes agents from the release of the rollout alone: who runs another one, as before
the rollout or after a failed attempt, stays as it is, also with --to.

With --wait it follows the revert to its end. Exit codes: 0 the revert has begun, or with
--wait the rollout is reverted, 1 failure, 2 wrong usage, 3 it has not ended (it is
paused, or --wait was over first), 4 it was halted, 6 it was replaced by another.`,
		Example: `  agentd rollout revert --etcd http://127.0.0.1:2379 --reason 'slow answers' --wait 30m
  agentd rollout revert --etcd http://127.0.0.1:2379 --repo repo --trust keys/release.pub --to 1.0.0`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error { return r.run(cmd) },
	}
	r.rolloutFlags.add(cmd)
	r.releases.add(cmd)
	r.who.add(cmd)
	f := cmd.Flags()
	f.StringVar(&r.to, "to", "", "`release` to go back to, as version or version@sha256:digest; default what each ran before")
	f.BoolVar(&r.force, "force", false, "begin it although agents have not kept the release")
	f.BoolVar(&r.past, "past-silent", false, "where agents that are silent past their deadline take all places, have the others go back one at a time beside them: one more than may be is then under way; also for a revert that was halted")
	f.DurationVar(&r.wait, "wait", 0, "how long to follow it to its end; default not at all")
	noVariable(cmd, "to")
	return cmd
}

func (r *rolloutRevert) run(cmd *cobra.Command) error {
	if r.wait < 0 {
		return usagef("--wait: want a duration such as 30m, found %v", r.wait)
	}
	if r.to != "" && !strings.Contains(r.to, "@") {
		if err := exactVersion("--to", r.to); err != nil {
			return err
		}
	}
	op, err := r.open()
	if err != nil {
		return err
	}
	defer op.close()
	v, err := op.status(cmd.Context())
	if err != nil {
		return err
	}
	if v.Plan == nil {
		return fmt.Errorf("fleet %s: %w", r.fleet, rollout.ErrNoPlan)
	}
	opts := rollout.RevertOptions{Act: r.who.act(), PastSilent: r.past}
	if v.Plan.Target.Config == nil {
		if opts.To, err = r.check(cmd, op, v.Plan); err != nil {
			return err
		}
	} else if r.to != "" {
		return usagef("--to is for a release: the rollout is of a configuration, and goes back to the document that was published when it began")
	}
	p, err := op.do(cmd.Context(), func(ctx context.Context) (rollout.Plan, error) { return op.Revert(ctx, opts) })
	if err != nil {
		return err
	}
	if r.wait == 0 || !r.output.json() {
		if err := r.tellPlan(cmd.OutOrStdout(), &p, fmt.Sprintf("rollout %s is %s; agentd rollout status --watch follows it", p.ID, p.State)); err != nil || r.wait == 0 {
			return err
		}
	}
	return op.await(cmd, &p, rollout.Reverted, r.wait)
}

// check finds the release that --to means, and the agents that could not go back.
func (r *rolloutRevert) check(cmd *cobra.Command, op *fleetOperator, p *rollout.Plan) (release.Pin, error) {
	entries, err := op.entries(cmd.Context())
	if err != nil {
		return release.Pin{}, err
	}
	a, err := rollout.NewAdmission(*p)
	if err != nil {
		return release.Pin{}, err
	}
	members := slices.DeleteFunc(membersOf(entries, op.flags.fleet), func(m *rollout.Member) bool { return !a.Selects(m) })
	to := p.Previous.Release
	var offered *release.Description
	if r.to != "" {
		if err := r.another(p.Target.Release); err != nil {
			return to, err
		}
		if to, offered, err = r.find(cmd.Context(), members); err != nil {
			return to, err
		}
	} else if !to.IsZero() && r.releases.location != "" {
		if offered, err = r.offered(cmd.Context(), to.String()); err != nil {
			return to, err
		}
	}
	if err := r.leaves(cmd.ErrOrStderr(), p, members, to); err != nil {
		return to, err
	}
	stuck := slices.DeleteFunc(members, func(m *rollout.Member) bool { return canGoBack(m, p, to, offered) })
	if len(stuck) == 0 {
		return r.pin(to), nil
	}
	what := "a release to go back to"
	if !to.IsZero() {
		what = to.Version
	}
	text := fmt.Sprintf("%s have not kept %s, and no --repo offers it to them", namedIDs(memberIDs(stuck)), what)
	if !r.force {
		return to, fmt.Errorf("nothing was reverted: %s; revert the others with --force, or name a release with --to", text)
	}
	say(cmd.ErrOrStderr(), "note: %s", oneLine(text))
	return r.pin(to), nil
}

// another refuses to go back to what the rollout has brought.
func (r *rolloutRevert) another(own release.Pin) error {
	pin, err := release.ParsePin(r.to)
	if r.to == own.Version || err == nil && pin.Digest == own.Digest {
		return usagef("--to: want another release than %s, which the rollout has brought: without --to agents go back to what they ran before", own.Version)
	}
	return nil
}

// leaves tells who of the agents does not go to the release of --to: a revert takes
// agents from the release of the rollout, and nobody else.
func (r *rolloutRevert) leaves(w io.Writer, p *rollout.Plan, members []*rollout.Member, to release.Pin) error {
	if r.to == "" || !p.State.Over() {
		return nil
	}
	var stay []*rollout.Member
	for _, m := range members {
		if m.Manifest != p.Target.Release.Digest {
			stay = append(stay, m)
		}
	}
	if len(stay) == 0 {
		return nil
	}
	text := fmt.Sprintf("a revert takes agents from %s; as it is, since it runs another, stays %s", p.Target.Release.Version, namedIDs(memberIDs(stay)))
	if len(stay) == len(members) {
		text = fmt.Sprintf("a revert takes agents from %s, and none runs it: agentd rollback --agent ID %s takes one there", p.Target.Release.Version, to.Version)
	}
	if len(stay) < len(members) || r.force {
		say(w, "note: %s", oneLine(text))
		return nil
	}
	return errors.New("nothing was reverted: " + text)
}

// pin is what is asked for: nothing where the plan says it.
func (r *rolloutRevert) pin(to release.Pin) release.Pin {
	if r.to == "" {
		return release.Pin{}
	}
	return to
}

// find pins the release of --to: by the repository if one is given, and else by
// what the agents have kept.
func (r *rolloutRevert) find(ctx context.Context, members []*rollout.Member) (release.Pin, *release.Description, error) {
	if r.releases.location != "" {
		d, err := r.offered(ctx, r.to)
		if err != nil {
			return release.Pin{}, nil, err
		}
		return d.Pin, d, nil
	}
	if strings.Contains(r.to, "@") {
		pin, err := release.ParsePin(r.to)
		if err != nil {
			return pin, nil, usagef("--to: %w", err)
		}
		return pin, nil, nil
	}
	found := map[string]bool{}
	for _, m := range members {
		for _, kept := range append(slices.Clone(m.Retained), m.Version+"@"+m.Manifest) {
			if version, _, ok := strings.Cut(kept, "@"); ok && version == r.to {
				found[kept] = true
			}
		}
	}
	pins := slices.Sorted(maps.Keys(found))
	if len(pins) != 1 {
		return release.Pin{}, nil, fmt.Errorf("want one release %s among those that the agents have kept, found %d (%s): give --repo and --trust, or --to %s@sha256:DIGEST", r.to, len(pins), dash(strings.Join(pins, ", ")), r.to)
	}
	pin, err := release.ParsePin(pins[0])
	return pin, nil, err
}

// offered is what the repository tells of a release that it has not withdrawn.
func (r *rolloutRevert) offered(ctx context.Context, text string) (*release.Description, error) {
	client, err := r.releases.client()
	if err != nil {
		return nil, err
	}
	d, err := client.Describe(ctx, text)
	if err != nil {
		return nil, err
	}
	if d.Yanked != "" && !r.force {
		return nil, fmt.Errorf("%w: %s: %s; go back to another, or to this one with --force", release.ErrYanked, text, d.Yanked)
	}
	return d, nil
}

// canGoBack tells whether an agent can run what it is to go back to.
func canGoBack(m *rollout.Member, p *rollout.Plan, to release.Pin, offered *release.Description) bool {
	switch {
	case to.IsZero():
		return m.Manifest != p.Target.Release.Digest || len(m.Retained) > 0
	case m.Manifest == to.Digest, m.Manifest == "" && m.Version == to.Version:
		return true
	case slices.Contains(m.Retained, to.String()), slices.Contains(m.Retained, to.Version):
		return true
	}
	return offered != nil && slices.ContainsFunc(offered.Manifest.Platforms, func(f release.Platform) bool { return f.String() == m.Platform })
}
