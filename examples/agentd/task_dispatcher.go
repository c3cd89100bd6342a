package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/plugin/dispatch"
)

func newTaskDispatcherCommand() *cobra.Command {
	var (
		etcd etcdFlags
		logs logFlags
		name string
	)
	cmd := &cobra.Command{
		Use:   "dispatcher",
		Short: "Assign tasks to agents, without being one",
		Long: `dispatcher stands for election as the one that assigns the tasks of the fleet,
beside the agents that do so, and assigns them while it is elected. It is for
fleets whose agents may not (agentd etcd bootstrap without --dispatch). Any number
may run; one works, the others wait to replace it. It runs until it is
interrupted, and then lets another one take over.`,
		Example: "  agentd task dispatcher --etcd http://127.0.0.1:2379 --name dispatcher-1",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := logs.logger(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if name == "" {
				if name, err = os.Hostname(); err != nil {
					return fmt.Errorf("the host has no name; give --name: %w", err)
				}
			}
			client, err := etcd.client()
			if err != nil {
				return err
			}
			defer func() { _ = client.Close() }()
			d, err := dispatch.NewDispatcher(dispatch.DispatcherConfig{Client: client, Root: etcd.root, ID: name, Logger: logger})
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), "dispatcher", name, "stands for election"); err != nil {
				return err
			}
			err = d.Run(cmd.Context())
			if cmd.Context().Err() != nil {
				return nil // it was asked to end
			}
			return err
		},
	}
	etcd.add(cmd)
	logs.add(cmd)
	cmd.Flags().StringVar(&name, "name", "", "`name` of this dispatcher, for people (default the host's)")
	noVariable(cmd, "name")
	return cmd
}
