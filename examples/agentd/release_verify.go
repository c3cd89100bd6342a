package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newReleaseVerifyCommand() *cobra.Command {
	var r reader
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check a whole repository, and say how to mend it",
		Long: `verify reads everything that the signed index of a repository leads to: the
index with its signature, sequence and expiry, and for each release the
manifest, its signature, and every binary, encoding and delta by its digest.
It changes nothing. It has no --cache, which would hide the repository's damage.

Exit code 0 means that all is well, 1 that something is damaged or could not
be read; each such file is listed with what to do.`,
		Example: "  agentd release verify --repo repo --trust keys/release.pub",
		Args:    takes(),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r.watch = &watch{w: cmd.ErrOrStderr()}
		client, err := r.client()
		if err != nil {
			return err
		}
		defer r.watch.begin(cmd.Context())()
		found, err := client.Verify(cmd.Context())
		if err != nil {
			return err
		}
		if output.json() {
			err = printJSON(cmd.OutOrStdout(), found)
		} else {
			_, err = fmt.Fprintln(cmd.OutOrStdout(), found)
		}
		if err != nil {
			return err
		}
		if n := len(found.Damage); n > 0 {
			return fmt.Errorf("want a repository without damage, found %d in %s: mend it as the list says", n, r.watch.source)
		}
		return nil
	}
	r.addOrigin(cmd)
	r.addTrust(cmd)
	require(cmd, "repo", "repo")
	return cmd
}
