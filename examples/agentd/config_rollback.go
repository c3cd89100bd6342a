package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
)

func newConfigRollbackCommand() *cobra.Command {
	var p configPublish
	var to int64
	cmd := &cobra.Command{
		Use:   "rollback SCOPE",
		Short: "Publish an earlier configuration document again",
		Long: `rollback publishes the document that SCOPE (global, group/GROUP or agent/ID)
had before the current one, or the one of --to, once more, as a new revision.
It is checked by the schemas of the live agents as config put does it. config
history lists what there is to go back to.`,
		Example: "  agentd config rollback --etcd http://127.0.0.1:2379 global\n" +
			"  agentd config rollback --etcd http://127.0.0.1:2379 --to 12 --message 'too many logs' global",
		Args: ofScope(takes("SCOPE")),
	}
	p.add(cmd)
	cmd.Flags().Int64Var(&to, "to", 0, "the `revision` to go back to (default the one before the current one)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if to < 0 {
			return usagef("--to: want a revision that config history lists, found %d", to)
		}
		return p.with(func(client *clientv3.Client) error { return p.rollBack(cmd, client, args[0], to) })
	}
	return cmd
}

func (p *configPublish) rollBack(cmd *cobra.Command, client *clientv3.Client, scope string, to int64) error {
	_, change, err := p.begin(cmd.Context(), cmd.ErrOrStderr(), client, scope)
	if err != nil {
		return err
	}
	var earlier config.Document
	err = p.etcd.ask(cmd.Context(), func(ctx context.Context) error {
		earlier, err = config.GetRevision(ctx, client, p.root(), scope, to)
		return err
	})
	if errors.Is(err, config.ErrNotFound) && to == 0 && change.Replaces != 0 {
		return fmt.Errorf("%w: revision %d is the first; agentd config delete %s takes it away", err, change.Replaces, scope)
	}
	if err != nil {
		return err
	}
	if earlier.Deleted {
		return fmt.Errorf("revision %d of %s is a deletion: use config delete, or name another revision with --to", earlier.Revision, scope)
	}
	r, err := p.approve(cmd.Context(), client, scope, earlier.Data, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	done := configOutcome{Scope: scope, Replaces: change.Replaces, Restores: earlier.Revision, Changed: true, Review: &r}
	err = p.etcd.ask(cmd.Context(), func(ctx context.Context) error {
		done.Revision, err = config.Rollback(ctx, client, p.root(), earlier.Revision, change)
		return err
	})
	if err != nil {
		return err
	}
	return p.conclude(cmd, client, done)
}
