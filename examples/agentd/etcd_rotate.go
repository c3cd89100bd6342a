package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/examples/agentd/internal/access"
)

func newEtcdRotateCommand() *cobra.Command {
	var (
		etcd      etcdFlags
		passwords string
	)
	cmd := &cobra.Command{
		Use:   "rotate-password USER...",
		Short: "Give users of etcd another password",
		Long: `rotate-password changes the passwords of users and writes them to --passwords.
Bring each file to its host right after: an agent reads its file again for
each login, and until then it keeps its connection, but cannot log in anew.
A user who logs in by certificate has no password, and is refused.
Call it as root. If it is interrupted, run it again; if that was root's own and
the old password no longer logs in, the new one is in the file root.next.`,
		Example: "  agentd etcd rotate-password --etcd http://127.0.0.1:2379 --etcd-user root --etcd-password-file /root/etcd-passwords/root \\\n" +
			"    --passwords /root/etcd-passwords agent-a1",
		Args: takesSome("USER"),
		RunE: func(cmd *cobra.Command, users []string) error {
			for _, user := range users {
				if err := access.CheckUser(user); err != nil {
					return usagef("%w", err)
				}
			}
			if _, err := os.Stat(passwords); err != nil {
				return fmt.Errorf("--passwords: %w", err)
			}
			client, err := etcd.client()
			if err != nil {
				return err
			}
			defer func() { _ = client.Close() }()
			for _, user := range users {
				if err := etcd.ask(cmd.Context(), func(ctx context.Context) error { return hasPassword(ctx, client, user) }); err != nil {
					return err
				}
				err := access.Passwords(passwords).Rotate(user, func(password string) error {
					return etcd.ask(cmd.Context(), func(ctx context.Context) error {
						_, err := client.UserChangePassword(ctx, user, password)
						return err
					})
				})
				if err != nil {
					return fmt.Errorf("password of %s: %w", user, err)
				}
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "changed the password of %s\n", user); err != nil {
					return err
				}
			}
			return nil
		},
	}
	etcd.addTimeout(cmd)
	cmd.Flags().StringVar(&passwords, "passwords", "", "`directory` with the password files")
	require(cmd, "passwords", "/root/etcd-passwords")
	return cmd
}

// hasPassword refuses a user who logs in by certificate alone: etcd would take
// another password for it and never let anybody in with it. etcd does not tell
// how a user logs in, except by how it refuses a password.
func hasPassword(ctx context.Context, client *clientv3.Client, user string) error {
	_, err := client.Authenticate(ctx, user, "-")
	if err != nil && strings.Contains(err.Error(), "no password user") {
		return fmt.Errorf("%s has no password, it logs in by certificate: renew that (agentd etcd certs renew)", user)
	}
	return ctx.Err()
}
