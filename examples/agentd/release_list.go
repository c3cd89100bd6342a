package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newReleaseListCommand() *cobra.Command {
	var r reader
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the releases of a repository",
		Long:    "list reads the signed index of a repository and shows its releases.",
		Example: "  agentd release list --repo https://releases.example.com/agentd --trust keys/release.pub",
		Args:    takes(),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		index, err := r.index(cmd.Context())
		if err != nil {
			return err
		}
		if output.json() {
			return printJSON(cmd.OutOrStdout(), index)
		}
		rows := [][]string{{"VERSION", "DIGEST", "WITHDRAWN"}}
		for _, e := range index.Releases {
			rows = append(rows, []string{e.Version, short(e.Manifest), dash(e.Yanked)})
		}
		if err := printTable(cmd.OutOrStdout(), rows); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "index %d of %s, issued %s, expires %s\n",
			index.Sequence, index.Name, stamp(index.Issued), stamp(index.Expires))
		return err
	}
	r.add(cmd)
	require(cmd, "repo", "repo")
	return cmd
}
