package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/release"
)

// chooser opens a repository of which one release is meant, written as an
// operator likes: as a version, a pin or a range.
type chooser struct {
	reader
	policy release.Policy
}

func (c *chooser) add(cmd *cobra.Command) {
	c.reader.add(cmd)
	cmd.Flags().BoolVar(&c.policy.AllowPrerelease, "prerelease", false, "take pre-releases that are in a RANGE")
}

// exact returns a version or a pin as it is, and a range as the pin that it
// stands for now, which w is told.
func (c *chooser) exact(ctx context.Context, client *release.Client, text string, w io.Writer) (string, error) {
	if err := releaseArgument(text); err != nil || !release.IsRange(text) {
		return text, err
	}
	pin, err := client.ResolveRange(ctx, text, c.policy)
	if err != nil {
		return "", err
	}
	say(w, "resolved %s to %s", text, pin)
	return pin.String(), nil
}

// releaseArgument refuses what is neither a version nor a pin nor a range.
func releaseArgument(text string) (err error) {
	switch {
	case release.IsRange(text):
		_, err = release.ParseRange(text)
	case strings.Contains(text, "@"):
		_, err = release.ParsePin(text)
	default:
		return exactVersion("VERSION", text)
	}
	if err != nil {
		return usagef("VERSION: %w", err)
	}
	return nil
}

func newReleaseResolveCommand() *cobra.Command {
	var c chooser
	cmd := &cobra.Command{
		Use:   "resolve RANGE|VERSION|VERSION@sha256:DIGEST",
		Short: "Print the pin that a range or a version stands for now",
		Long: `resolve looks RANGE (^1.2.0, ~1.2.3, '>=1.2, <2') up in the signed index, once,
and prints the pin of the newest release in it that was not withdrawn: version
and digest of the manifest. Pre-releases are taken only if RANGE names one, or
with --prerelease. A VERSION is pinned, and a whole pin is compared with the
index. Order the pin, and every agent gets the same release, whatever is
published meanwhile.

Exit code 0 means that the pin was printed, 1 that there is no such release,
that it was withdrawn, or that the index could not be had.`,
		Example: `  agentd release resolve --repo repo --trust keys/release.pub ^1.1.0
  agentd release resolve --repo repo --trust keys/release.pub --prerelease -o json ~1.2.0`,
		Args: takes("RANGE"),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := releaseArgument(args[0]); err != nil {
			return err
		}
		client, err := c.client()
		if err != nil {
			return err
		}
		pin, err := client.ResolveAny(cmd.Context(), args[0], c.policy)
		if err != nil {
			return err
		}
		if output.json() {
			return printJSON(cmd.OutOrStdout(), map[string]any{"name": c.name, "asked": args[0], "pin": pin, "reference": pin.String()})
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), pin)
		return err
	}
	c.add(cmd)
	require(cmd, "repo", "repo")
	return cmd
}
