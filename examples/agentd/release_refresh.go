package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newReleaseRefreshCommand() *cobra.Command {
	var p publisher
	cmd := &cobra.Command{
		Use:   "refresh",
		Short: "Sign the index anew with a later expiry",
		Long: `refresh signs the index again, so that it does not expire while nothing is
released. Agents take no release from an expired index.`,
		Example: "  agentd release refresh --key keys/release.key --repo repo",
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			repo, err := p.open()
			if err != nil {
				return err
			}
			if err := repo.Refresh(cmd.Context(), p.name); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "signed the index of %s anew\n", p.name)
			return err
		},
	}
	p.add(cmd)
	return cmd
}
