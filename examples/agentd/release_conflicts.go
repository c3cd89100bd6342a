package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/release"
)

// fileSide reads an executable.
func fileSide(path string) (side, error) {
	info, err := os.Stat(path)
	if err != nil {
		return side{}, fmt.Errorf("want the version of a release, such as 1.1.0, or an executable: %w", err)
	}
	s := side{Name: path, Size: info.Size()}
	s.Build, err = release.ReadBuild(path)
	if err != nil && !errors.Is(err, release.ErrNoBuild) {
		return side{}, err
	}
	if s.Build != nil {
		if s.Revision = s.Build.Revision; s.Build.Modified {
			s.Revision += "+dirty"
		}
	}
	return s, nil
}

func newReleaseConflictsCommand() *cobra.Command {
	var s sides
	var modules []string
	cmd := &cobra.Command{
		Use:   "conflicts HOST PLUGIN",
		Short: "Tell where a plugin and its host disagree on a shared protocol module",
		Long: `conflicts reads what HOST and PLUGIN were built of, each a release in the
repository (VERSION, VERSION@sha256:DIGEST or a RANGE) or the path of an executable, and compares the modules by which
they talk to each other: protobuf, grpc, go-plugin and perennial, or those of
--module. Another major version is incompatible, and so is another minor
version of 0.x; other differences are listed and harmless.

Exit code 0 means that nothing is incompatible, 1 that something is, and 3 that
it cannot be told: a version cannot be compared, such as that of a module out
of a local directory, or one of the two does not tell what it was built of.`,
		Example: `  agentd release conflicts ./agentd plugins/logtail
  agentd release conflicts --repo repo --trust keys/release.pub --module example.com/protocol 1.1.0 plugins/logtail`,
		Args: takes("HOST", "PLUGIN"),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var both [2]side
		for i, name := range args {
			var err error
			if both[i], err = s.read(cmd.Context(), name, cmd.ErrOrStderr()); err != nil {
				return err
			}
			if both[i].Build == nil {
				return undecidedError{fmt.Errorf("want what %s was built of, found nothing: it is not of Go, or was stripped, or its release was published by an older one: give the executable", both[i].Name)}
			}
		}
		found := release.Conflicts(both[0].Build, both[1].Build, modules)
		if output.json() {
			if found == nil {
				found = []release.Conflict{}
			}
			if err := printJSON(cmd.OutOrStdout(), map[string]any{"host": both[0], "plugin": both[1], "conflicts": found}); err != nil {
				return err
			}
			return incompatible(found, args)
		}
		if err := printTable(cmd.OutOrStdout(), verdicts(found)); err != nil {
			return err
		}
		return incompatible(found, args)
	}
	s.add(cmd)
	cmd.Flags().StringSliceVar(&modules, "module", nil, "`path` of a protocol module; may be repeated (default those of perennial)")
	return cmd
}

func verdicts(found []release.Conflict) [][]string {
	if len(found) == 0 {
		return [][]string{{"host and plugin have the same protocol modules"}}
	}
	rows := [][]string{{"MODULE", "HOST", "PLUGIN", "VERDICT"}}
	for _, c := range found {
		verdict := "compatible"
		switch {
		case c.Incompatible:
			verdict = "INCOMPATIBLE"
		case c.Unknown != "":
			verdict = "unknown: " + c.Unknown
		}
		rows = append(rows, []string{c.Path, c.Host, c.Plugin, verdict})
	}
	return rows
}

// incompatible is the error of what is found, the worst first.
func incompatible(found []release.Conflict, args []string) error {
	var unknown error
	for _, c := range found {
		if c.Unknown != "" && unknown == nil {
			unknown = undecidedError{fmt.Errorf("want versions of %s that can be compared, found %s in %s and %s in %s: %s", c.Path, dash(c.Host), args[0], dash(c.Plugin), args[1], c.Unknown)}
		}
		if c.Incompatible {
			return fmt.Errorf("want compatible versions of %s, found %s in %s and %s in %s: build one of them with the other's", c.Path, c.Host, args[0], c.Plugin, args[1])
		}
	}
	return unknown
}
