package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/release"
)

func newKeysCommand() *cobra.Command {
	return newGroup("keys", "Make the keys that sign releases", "  agentd keys generate --out keys", newKeysGenerateCommand())
}

func newKeysGenerateCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Write release.key (mode 0600) and release.pub",
		Long: `generate makes a key pair for signing releases. Keep release.key where only
the release build can read it; give release.pub to every agent (run --trust).
Keys that exist are never replaced.`,
		Example: "  agentd keys generate --out keys",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := release.GenerateKey(out); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "wrote %s, to be kept secret, and %s, for every agent\n",
				filepath.Join(out, release.PrivateKeyFile), filepath.Join(out, release.PublicKeyFile))
			return err
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "`directory` for the two files, made if it is missing")
	require(cmd, "out", "keys")
	return cmd
}
