package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/examples/internal/etcdserver"
)

func newEtcdCommand() *cobra.Command {
	var cfg etcdserver.Config
	logs := &logFlags{}
	cmd := &cobra.Command{
		Use:   "etcd",
		Short: "Prepare etcd for a fleet: users, roles, certificates; or run one for trying out",
		Long: `etcd runs a single-node etcd in this process, for trying things out: it has
no quorum to survive on and listens without TLS. It prints its address and
stops on SIGINT or SIGTERM; the data stays.

Its commands prepare an etcd of your own for a fleet: users and roles, and a
small certificate authority. docs/etcd.md goes through it.`,
		Example: "  agentd etcd --data /tmp/etcd --listen 127.0.0.1:2379",
		Args:    groupArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := logs.logger(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			cfg.Logger = logger
			server, err := etcdserver.Start(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			defer server.Close()
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), "etcd serves on", server.URL()); err != nil {
				return err
			}
			return server.Wait(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&cfg.Dir, "data", "", "`directory` of the data, made if it is missing")
	cmd.Flags().StringVar(&cfg.Listen, "listen", "127.0.0.1:2379", "`address` for clients; port 0 takes a free one")
	logs.add(cmd)
	require(cmd, "data", "/tmp/etcd")
	cmd.AddCommand(
		newEtcdBootstrapCommand(),
		newEtcdAddAgentCommand(),
		newEtcdRemoveAgentCommand(),
		newEtcdRotateCommand(),
		newEtcdCertsCommand(),
	)
	return cmd
}
