package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func newReleaseYankCommand() *cobra.Command {
	var p publisher
	var reason string
	var undo bool
	cmd := &cobra.Command{
		Use:   "yank VERSION",
		Short: "Withdraw a release",
		Long: `yank marks a release as withdrawn in the signed index: no agent upgrades to
it any more, and those that run it raise the alert release_yanked with their
next look at the index. They are left alone otherwise.

--undo offers it again.`,
		Example: "  agentd release yank --key keys/release.key --repo repo --reason 'loses records' 1.1.0",
		Args:    takes("VERSION"),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case undo && reason != "":
			return usagef("--undo offers the release again, which needs no --reason: give one of the two")
		case !undo && strings.TrimSpace(reason) == "":
			return usagef("%s wants --reason (or %s), such as --reason 'loses records'", cmd.CommandPath(), variable("reason"))
		}
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
		if output.json() {
			return printJSON(cmd.OutOrStdout(), map[string]string{"name": p.name, "version": args[0], "yanked": reason})
		}
		done := "withdrew"
		if undo {
			done = "offers again"
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s %s\n", done, p.name, args[0])
		return err
	}
	p.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why; shown to whoever asks for the release")
	cmd.Flags().BoolVar(&undo, "undo", false, "offer the release again")
	return cmd
}
