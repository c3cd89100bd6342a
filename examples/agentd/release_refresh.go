package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/release"
)

func newReleaseRefreshCommand() *cobra.Command {
	var p publisher
	cmd := &cobra.Command{
		Use:   "refresh",
		Short: "Sign the index anew with a later expiry",
		Long: `refresh signs the index again, so that it does not expire while nothing is
released, and tells its sequence and its expiry. Agents take no release from an
expired index.`,
		Example: `  agentd release refresh --key keys/release.key --repo repo
  agentd release refresh --key keys/release.key --repo repo --validity 168h`,
		Args: takes(),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		// Before anything is made for it.
		if _, err := os.Stat(filepath.Join(p.dir, "index.json")); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("want a repository in %s, found none: %w: give its directory, or publish a release first (release build)", p.dir, err)
		}
		repo, err := p.open()
		if err != nil {
			return err
		}
		if err := repo.Refresh(cmd.Context(), p.name); err != nil {
			return err
		}
		state, err := repo.State(cmd.Context(), p.name)
		if err != nil {
			return err
		}
		if output.json() {
			return printJSON(cmd.OutOrStdout(), struct {
				Name string `json:"name"`
				release.IndexState
			}{p.name, state})
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "signed the index of %s anew: index %d, expires %s (%s)\n", p.name, state.Sequence, stamp(state.Expires), left(state.Expires, time.Now()))
		return err
	}
	p.add(cmd)
	return cmd
}
