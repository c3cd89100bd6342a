package main

import (
	"context"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
)

func newConfigDeleteCommand() *cobra.Command {
	var c configChange
	cmd := &cobra.Command{
		Use:   "delete SCOPE",
		Short: "Delete a configuration document",
		Long: `delete takes the document of SCOPE (global, group/GROUP or agent/ID) away; the
other layers and the defaults apply then. The history keeps it: config rollback
brings it back. With --wait it follows the agents until none runs it.`,
		Example: "  agentd config delete --etcd http://127.0.0.1:2379 --message 'test is over' agent/a1",
		Args:    ofScope(takes("SCOPE")),
	}
	c.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.with(func(client *clientv3.Client) error { return c.remove(cmd, client, args[0]) })
	}
	return cmd
}

func (c *configChange) remove(cmd *cobra.Command, client *clientv3.Client, scope string) error {
	_, change, err := c.begin(cmd.Context(), cmd.ErrOrStderr(), client, scope)
	if err != nil {
		return err
	}
	done := configOutcome{Scope: scope, Replaces: change.Replaces, Deleted: true, Changed: true}
	err = c.etcd.ask(cmd.Context(), func(ctx context.Context) error {
		done.Revision, err = config.Delete(ctx, client, c.root(), change)
		return err
	})
	if err != nil {
		return err
	}
	return c.conclude(cmd, client, done)
}
