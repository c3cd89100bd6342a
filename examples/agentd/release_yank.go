package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newReleaseYankCommand() *cobra.Command {
	var p publisher
	var reason string
	cmd := &cobra.Command{
		Use:   "yank VERSION",
		Short: "Withdraw a release",
		Long: `yank marks a release as withdrawn in the signed index: no agent upgrades to
it any more. Agents that run it are not touched.`,
		Example: "  agentd release yank --key keys/release.key --repo repo --reason 'loses records' 1.1.0",
		Args:    takes("VERSION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := exactVersion("VERSION", args[0]); err != nil {
				return err
			}
			repo, err := p.open()
			if err != nil {
				return err
			}
			if err := repo.Yank(cmd.Context(), p.name, args[0], reason); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "withdrew %s %s\n", p.name, args[0])
			return err
		},
	}
	p.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why; shown to whoever asks for the release")
	require(cmd, "reason", "'loses records'")
	return cmd
}
