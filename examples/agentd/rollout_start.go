package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// rolloutStart is what agentd rollout start was called with.
type rolloutStart struct {
	rolloutFlags
	releases chooser
	shape    rolloutShape
	who      actFlags
	config   string
	scope    string
	id       string
	major    bool
	replace  bool
	force    bool
	dryRun   bool
	wait     time.Duration
}

const rolloutStartHelp = `start begins a rollout: of a release, VERSION, which is resolved in the signed index
and pinned as agentd upgrade does, or of a configuration document, --config. How it
goes is said by flags or in a file, --plan; without either it is the default canary
flow. docs/rollouts.md has a plan for each strategy.

Before it begins it is checked: the release exists, is signed and was not withdrawn;
each agent that it is about runs that program, has a platform that the release is for,
and would not refuse the version; no stage is without agents; no other rollout is
under way (--replace ends it: its agents stay as they are until the new one admits
them). A document is checked by the schemas of the agents, as agentd config put does.
--force begins it although agents would refuse it.

--dry-run makes those checks, shows who would be in which stage, and begins nothing; it
ends with 1 where start would refuse, and marks why as "obstacle".
Who comes first depends on the rollout's id: give --rollout-id the one that --dry-run
printed, and the same agents do.

Without --wait it ends once the rollout has begun. With it, it follows the rollout
until it has ended, or needs an operator, and prints how far it is on standard error.
An interrupt ends the command, not the rollout.

` + rolloutExits

func newRolloutStartCommand() *cobra.Command {
	var s rolloutStart
	cmd := &cobra.Command{
		Use:   "start [VERSION|VERSION@sha256:DIGEST|RANGE]",
		Short: "Begin a rollout",
		Long:  rolloutStartHelp,
		Example: `  agentd rollout start --etcd http://127.0.0.1:2379 --repo repo --trust keys/release.pub --soak 10m --wait 4h 1.1.0
  agentd rollout start --etcd http://127.0.0.1:2379 --repo repo --trust keys/release.pub --rolling --batch 10% --max-unavailable 5 ^1.1.0
  agentd rollout start --etcd http://127.0.0.1:2379 --repo repo --trust keys/release.pub --plan plan.yaml --dry-run
  agentd rollout start --etcd http://127.0.0.1:2379 --config web.yaml --scope group/web --canary`,
		Args: between(0, "VERSION"),
		RunE: s.run,
	}
	s.add(cmd)
	return cmd
}

func (s *rolloutStart) add(cmd *cobra.Command) {
	s.rolloutFlags.add(cmd)
	s.releases.add(cmd)
	s.shape.add(cmd)
	f := cmd.Flags()
	f.StringVar(&s.who.by, "by", "", "who begins it, for the history (default user@host)")
	f.StringVar(&s.who.reason, "reason", "", "why, for the history")
	f.StringVar(&s.config, "config", "", "`file` with a configuration document to roll out, in place of a release; - is standard input")
	f.StringVar(&s.scope, "scope", "", "`scope` of that document: global or group/GROUP")
	f.StringVar(&s.id, "rollout-id", "", "`id` of the rollout, as --dry-run printed it; default a new one")
	f.BoolVar(&s.major, "allow-major", false, "the agents take another major version (agentd run --allow-major)")
	f.BoolVar(&s.replace, "replace", false, "end another rollout that is under way")
	f.BoolVar(&s.force, "force", false, "begin it although agents would refuse it")
	f.BoolVar(&s.dryRun, "dry-run", false, "check it and show who would be in which stage, and begin nothing")
	f.DurationVar(&s.wait, "wait", 0, "how long to follow it to its end; default not at all")
	for _, flag := range []string{"config", "scope", "rollout-id", "allow-major"} {
		noVariable(cmd, flag)
	}
}

func (s *rolloutStart) run(cmd *cobra.Command, args []string) error {
	if s.wait < 0 {
		return usagef("--wait: want a duration such as 2h, found %v", s.wait)
	}
	p, opts, err := s.prepare(cmd, args)
	if err != nil {
		return err
	}
	op, err := s.open()
	if err != nil {
		return err
	}
	defer op.close()
	v, err := op.status(cmd.Context())
	if s.replace && errors.Is(err, rollout.ErrPlan) {
		say(cmd.ErrOrStderr(), "note: replaced is %s", oneLine(err.Error()))
	} else if err != nil {
		return err
	}
	if err := s.unoccupied(v.Plan); err != nil {
		return err
	}
	entries, err := op.entries(cmd.Context())
	if err != nil {
		return err
	}
	c := startCheck{plan: &p, leader: v.Leader, entries: entries, members: membersOf(entries, op.flags.fleet), policy: s.policy()}
	if err := s.examine(cmd, &c, opts.Document); err != nil {
		return err
	}
	if s.dryRun {
		return errors.Join(s.preview(cmd.OutOrStdout(), &c), c.wouldBegin(s.force))
	}
	err = s.etcd.ask(cmd.Context(), func(ctx context.Context) (err error) {
		p, err = op.Start(ctx, p, opts)
		return err
	})
	if err != nil {
		return err
	}
	if s.wait == 0 || !s.output.json() {
		text := fmt.Sprintf("rollout %s has begun; agentd rollout status --watch follows it", p.ID)
		if err := s.tellPlan(cmd.OutOrStdout(), &p, text); err != nil || s.wait == 0 {
			return err
		}
	}
	return op.await(cmd, &p, rollout.Completed, s.wait)
}

// policy is what the agents are taken to accept.
func (s *rolloutStart) policy() release.Policy {
	return release.Policy{AllowMajor: s.major, AllowPrerelease: s.releases.policy.AllowPrerelease}
}

// prepare makes the plan of flags, arguments and files, with its defaults.
func (s *rolloutStart) prepare(cmd *cobra.Command, args []string) (rollout.Plan, rollout.StartOptions, error) {
	opts := rollout.StartOptions{Replace: s.replace}
	p, file, err := s.shape.build(cmd)
	if err != nil {
		return p, opts, err
	}
	act := s.who.act()
	p.Fleet, p.By = s.fleet, act.By
	if act.Reason != "" {
		p.Reason = act.Reason
	}
	version, document, scope := "", s.config, s.scope
	if len(args) > 0 {
		version = args[0]
	} else if file != nil && document == "" {
		version = file.Version
		if c := file.Config; c != nil {
			document, scope = c.File, c.Scope
			if !filepath.IsAbs(document) && document != "" {
				document = filepath.Join(filepath.Dir(s.shape.plan), document)
			}
		}
	}
	switch {
	case s.scope != "" && s.config == "":
		return p, opts, usagef("--scope says whose document --config is: want both, or neither")
	case version != "" && document != "":
		return p, opts, usagef("want a release or a configuration document, found both: start a rollout for each, one after the other")
	case version != "":
		p.Target, err = s.release(cmd.Context(), version, cmd.ErrOrStderr())
	case document != "":
		p.Target, opts.Document, err = documentTarget(cmd, document, scope)
	default:
		err = usagef("%s wants the argument VERSION, or --config; see %s --help", cmd.CommandPath(), cmd.CommandPath())
	}
	if err != nil {
		return p, opts, err
	}
	if p.ID = s.id; p.ID == "" {
		p.ID = newRolloutID(time.Now())
	}
	p.Created, p.Since = time.Now().UTC(), time.Now().UTC()
	p = p.WithDefaults()
	if err := p.Validate(); err != nil {
		return p, opts, usageError{err}
	}
	return p, opts, nil
}

// newRolloutID is one that says when, and that nobody else makes.
func newRolloutID(now time.Time) string {
	return now.UTC().Format("20060102-150405-") + strings.ToLower(rand.Text()[:8])
}

// release pins what is to run: it is in the signed index, and not withdrawn.
func (s *rolloutStart) release(ctx context.Context, version string, w io.Writer) (rollout.Target, error) {
	if err := releaseArgument(version); err != nil {
		return rollout.Target{}, err
	}
	if s.releases.location == "" {
		return rollout.Target{}, usagef("a release wants --repo (or %s), the repository that has it, such as --repo repo", variable("repo"))
	}
	client, err := s.releases.client()
	if err != nil {
		return rollout.Target{}, err
	}
	pin, err := client.ResolveAny(ctx, version, s.releases.policy)
	if err != nil {
		return rollout.Target{}, err
	}
	say(w, "resolved %s to %s", version, pin)
	t := rollout.Target{Release: pin, Program: s.releases.name}
	if release.IsRange(version) {
		t.Asked = version
	}
	return t, nil
}

// documentTarget reads the document that is rolled out.
func documentTarget(cmd *cobra.Command, file, scope string) (rollout.Target, []byte, error) {
	if scope == "" {
		return rollout.Target{}, nil, usagef("--config wants --scope, whose document it is: global or group/GROUP")
	}
	if err := config.CheckScope(scope); err != nil {
		return rollout.Target{}, nil, usagef("--scope: %w", err)
	}
	document, err := readDocument(cmd, []string{file})
	if err != nil {
		return rollout.Target{}, nil, err
	}
	return rollout.Target{Config: &rollout.ConfigTarget{Scope: scope, Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(document))}}, document, nil
}

// unoccupied refuses early to begin beside another rollout; Start has the last
// word.
func (s *rolloutStart) unoccupied(p *rollout.Plan) error {
	if p != nil && !p.State.Over() && !s.replace {
		return fmt.Errorf("%w: %s, asked for by %s, is %s: wait for its end, end it (agentd rollout abort, or revert), or replace it (--replace)", rollout.ErrUnderWay, p.ID, dash(p.By), p.State)
	}
	return nil
}

// examine refuses what agents would.
func (s *rolloutStart) examine(cmd *cobra.Command, c *startCheck, document []byte) error {
	if err := c.sort(); err != nil {
		return usageError{err}
	}
	if c.plan.Target.Config != nil {
		return s.examineDocument(cmd, c, document)
	}
	client, err := s.releases.client()
	if err != nil {
		return err
	}
	d, err := client.Describe(cmd.Context(), c.plan.Target.Release.String())
	if err != nil {
		return err
	}
	if len(c.plan.Environments) > 0 {
		c.plan.Binaries = executables(d.Manifest) // for the pins that move once it has completed
	}
	c.examine(d.Manifest)
	return c.verdict(cmd.ErrOrStderr(), s.force || s.dryRun)
}

func (s *rolloutStart) examineDocument(cmd *cobra.Command, c *startCheck, document []byte) error {
	check := configPublish{}
	check.etcd = s.etcd
	err := check.with(func(client *clientv3.Client) error {
		r, err := check.review(cmd.Context(), client, c.plan.Target.Config.Scope, document)
		c.notes = append(c.notes, r.Notes...)
		if refused := r.err(); refused != nil {
			c.obstacles = append(c.obstacles, refused.Error())
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.verdict(cmd.ErrOrStderr(), s.force || s.dryRun)
}
