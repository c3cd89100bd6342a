package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/release"
)

func newReleaseListCommand() *cobra.Command {
	var r reader
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the releases of a repository",
		Long: `list reads the signed index of a repository and the manifests of its releases:
what they are pinned by, whether they were withdrawn, and how many bytes each
platform costs: the binary, and its encodings and deltas. Where a manifest
cannot be read the table says UNREADABLE, and a line below it why.

Exit code 0 means that the index was read, whatever became of the manifests
(release verify is to find damage), and 1 that it was not.`,
		Example: "  agentd release list --repo https://releases.example.com/agentd --trust keys/release.pub",
		Args:    takes(),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := r.client()
		if err != nil {
			return err
		}
		index, all, err := client.DescribeAll(cmd.Context())
		if err != nil {
			return err
		}
		if output.json() {
			return printJSON(cmd.OutOrStdout(), struct {
				*release.Index
				Details []release.Description `json:"details"`
			}{index, all})
		}
		var reasons strings.Builder
		rows := [][]string{{"VERSION", "DIGEST", "BUILT", "SIZES", "WITHDRAWN"}}
		for _, d := range all {
			row := []string{d.Pin.Version, short(d.Pin.Digest), "-", manifestUnread, dash(oneLine(d.Yanked))}
			if d.Problem == "" {
				row[2], row[3] = stamp(d.Manifest.Created), sizes(d.Manifest)
			}
			rows = append(rows, row)
			if d.Problem != "" {
				fmt.Fprintf(&reasons, "%s is %s: %s\n", d.Pin.Version, manifestUnread, oneLine(d.Problem))
			}
		}
		if err := printTable(cmd.OutOrStdout(), rows); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%sindex %d of %s, issued %s, expires %s (%s)\n",
			reasons.String(), index.Sequence, index.Name, stamp(index.Issued), stamp(index.Expires), left(index.Expires, time.Now()))
		return err
	}
	r.add(cmd)
	require(cmd, "repo", "repo")
	return cmd
}

// manifestUnread stands in the table for a manifest that could not be had: why
// takes a line of its own.
const manifestUnread = "UNREADABLE"

// sizes says how many bytes each platform costs.
func sizes(m *release.Manifest) string {
	var all []string
	for _, p := range m.Platforms {
		forms := []string{p.String() + " " + mebibytes(p.Size)}
		for _, e := range p.Encodings {
			forms = append(forms, e.Format+" "+mebibytes(e.Size))
		}
		for _, d := range p.Deltas {
			forms = append(forms, fmt.Sprintf("%s from %s %s", d.Format, short(d.From), mebibytes(d.Size)))
		}
		all = append(all, strings.Join(forms, ", "))
	}
	return strings.Join(all, "; ")
}

func mebibytes(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// left says in days how long an index lasts.
func left(expires, now time.Time) string {
	switch d := expires.Sub(now); {
	case d <= 0:
		return "expired: agents take nothing from it; see agentd release refresh --help"
	case d < 48*time.Hour:
		return fmt.Sprintf("in %.0f h", d.Hours())
	default:
		return fmt.Sprintf("in %.0f days", d.Hours()/24)
	}
}
