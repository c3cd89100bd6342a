package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// configChange is what the commands that change a document have in common.
type configChange struct {
	configFlags
	expect  int64
	message string
	by      string
	wait    time.Duration
	output  *format
}

// asFound is the --expect-revision of those who name none: what is there when
// the command begins.
const asFound = -1

func (c *configChange) add(cmd *cobra.Command) {
	c.configFlags.add(cmd)
	c.output = formatFlag(cmd)
	f := cmd.Flags()
	f.Int64Var(&c.expect, "expect-revision", asFound, "do it only if this `revision` is the current one; 0: if there is none (default what is there when the command begins)")
	f.StringVar(&c.message, "message", "", "why, for the history")
	f.StringVar(&c.by, "by", "", "who does it, for the history (default user@host)")
	f.DurationVar(&c.wait, "wait", 0, "how long to follow the agents until they run it or refuse it (default not at all)")
}

// begin reads what is to be replaced. A document that is not the expected one
// is refused at once. What is worth knowing is told on w.
func (c *configChange) begin(ctx context.Context, w io.Writer, client *clientv3.Client, scope string) (config.Document, config.Change, error) {
	if c.expect < asFound {
		return config.Document{}, config.Change{}, usagef("--expect-revision: want a revision, or 0 for none, found %d", c.expect)
	}
	now, err := c.get(ctx, client, scope)
	if err != nil {
		return now, config.Change{}, err
	}
	change := config.Change{Scope: scope, Replaces: now.Revision, By: c.by, Message: c.message}
	if now.Deleted {
		change.Replaces = 0
	}
	if change.By == "" {
		change.By = requester()
	}
	if c.expect != asFound && c.expect != change.Replaces {
		return now, change, &config.ConflictError{Scope: scope, Wanted: c.expect, Found: now}
	}
	for _, p := range c.rollouts(ctx, client, scope) {
		say(w, "note: rollout %s of fleet %s, which brings a document of %s, is %s: agents that it has let in keep that one meanwhile; where another is published, it pauses at its end and does not take its place", p.ID, p.Fleet, scope, p.State)
	}
	return now, change, nil
}

// rollouts are those of scope's documents that are under way, as far as that can
// be told: who publishes need not have the right to see them.
func (c *configChange) rollouts(ctx context.Context, client *clientv3.Client, scope string) []rollout.Plan {
	var all []rollout.Plan
	_ = c.etcd.ask(ctx, func(ctx context.Context) (err error) {
		all, err = rollout.Plans(ctx, client, c.root())
		return err
	})
	return slices.DeleteFunc(all, func(p rollout.Plan) bool {
		return p.Target.Config == nil || p.Target.Config.Scope != scope || p.State.Over()
	})
}

// configPublish is a change that publishes a document.
type configPublish struct {
	configChange
	force bool
}

func (p *configPublish) add(cmd *cobra.Command) {
	p.configChange.add(cmd)
	cmd.Flags().BoolVar(&p.force, "force", false, "publish it although live agents would refuse it")
}

// configOutcome is a change that was made, as -o json prints it.
type configOutcome struct {
	Scope    string   `json:"scope"`
	Revision int64    `json:"revision,omitempty"`
	Replaces int64    `json:"replaces"`
	Restores int64    `json:"restores,omitempty"`
	Deleted  bool     `json:"deleted,omitempty"`
	Changed  bool     `json:"changed"`
	DryRun   bool     `json:"dry_run,omitempty"`
	Review   *review  `json:"review,omitempty"`
	Outcome  *outcome `json:"outcome,omitempty"`
}

// approve reviews a document before anybody sees it, and says on w what is
// worth knowing.
func (p *configPublish) approve(ctx context.Context, client *clientv3.Client, scope string, document []byte, w io.Writer) (review, error) {
	if p.wait < 0 {
		return review{}, usagef("--wait: want a duration such as 1m, found %v", p.wait)
	}
	r, err := p.review(ctx, client, scope, document)
	if err != nil {
		return r, err
	}
	for _, note := range r.Notes {
		_, _ = fmt.Fprintln(w, "note:", oneLine(note))
	}
	refused := r.err()
	switch {
	case refused == nil:
		return r, nil
	case p.force:
		_, _ = fmt.Fprintln(w, "note: published all the same:", oneLine(refused.Error()))
		return r, nil
	}
	return r, fmt.Errorf("%s was not published: %w: correct it, or publish it all the same with --force", scope, refused)
}

// conclude tells of what was done, and waits for the agents if asked.
func (c *configChange) conclude(cmd *cobra.Command, client *clientv3.Client, done configOutcome) error {
	progress := cmd.OutOrStdout()
	if c.output.json() {
		progress = cmd.ErrOrStderr()
	} else if _, err := fmt.Fprintln(progress, done); err != nil {
		return err
	}
	var unsettled error
	if c.wait > 0 && done.Changed && !done.DryRun {
		o, err := c.await(cmd.Context(), client, awaited{scope: done.Scope, revision: done.Revision, deleted: done.Deleted}, c.wait, progress)
		done.Outcome, unsettled = &o, err
	}
	if c.output.json() {
		return errors.Join(printJSON(cmd.OutOrStdout(), done), unsettled)
	}
	return unsettled
}

// String implements fmt.Stringer.
func (p configOutcome) String() string {
	over := fmt.Sprintf("over revision %d", p.Replaces)
	if p.Replaces == 0 {
		over = "where there was no document"
	}
	switch {
	case p.Deleted:
		return fmt.Sprintf("deleted %s, which was revision %d; bring it back with agentd config rollback --to %[2]d %[1]s", p.Scope, p.Replaces)
	case !p.Changed:
		return fmt.Sprintf("%s is unchanged: revision %d has the same text", p.Scope, p.Replaces)
	case p.DryRun:
		return fmt.Sprintf("%s would be published %s", p.Scope, over)
	case p.Restores > 0:
		return fmt.Sprintf("published %s as revision %d, which is revision %d again, %s", p.Scope, p.Revision, p.Restores, over)
	}
	return fmt.Sprintf("published %s as revision %d, %s", p.Scope, p.Revision, over)
}
