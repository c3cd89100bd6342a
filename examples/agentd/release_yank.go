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

--undo offers it again. What is withdrawn for the same reason, or with --undo
offered, stays as it is: the index is not written, and its expiry stays; only
what a publisher that was killed has left behind is mended.
Another reason takes the place of the first.

Exit code 0 means that the release is withdrawn, or with --undo offered, now,
whether or not it was before, and 1 that nothing was changed.`,
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
		before, err := repo.Withdraw(cmd.Context(), p.name, args[0], reason)
		if err != nil {
			return err
		}
		if output.json() {
			return printJSON(cmd.OutOrStdout(), map[string]any{"name": p.name, "version": args[0], "yanked": reason, "changed": before != reason})
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), yanked(p.name+" "+args[0], before, reason))
		return err
	}
	p.add(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why; shown to whoever asks for the release")
	cmd.Flags().BoolVar(&undo, "undo", false, "offer the release again")
	return cmd
}

// yanked says what became of a release that was withdrawn for a reason, or
// offered without one.
func yanked(what, before, reason string) string {
	switch {
	case before == reason && reason == "":
		return what + " is not withdrawn, nothing was changed"
	case before == reason:
		return fmt.Sprintf("%s is withdrawn already (%s), nothing was changed", what, oneLine(reason))
	case reason == "":
		return "offers again " + what
	case before != "":
		return fmt.Sprintf("%s was withdrawn already (%s): the reason is now: %s", what, oneLine(before), oneLine(reason))
	}
	return "withdrew " + what
}
