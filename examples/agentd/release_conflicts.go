package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

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
of a local directory, which is (devel) unless the module was built with
-buildvcs=true at a tag, or one of the two does not tell what it was built of,
or neither has a --module.`,
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
		}
		c := compared{Host: both[0], Plugin: both[1], Conflicts: []release.Conflict{}}
		verdict := c.compare(modules)
		if output.json() {
			return errors.Join(printJSON(cmd.OutOrStdout(), c), verdict)
		}
		if c.Host.Build == nil || c.Plugin.Build == nil {
			return verdict
		}
		return errors.Join(printTable(cmd.OutOrStdout(), c.verdicts(modules)), verdict)
	}
	s.add(cmd)
	cmd.Flags().StringSliceVar(&modules, "module", nil, "`path` of a protocol module; may be repeated (default those of perennial)")
	return cmd
}

// compared is what release conflicts finds.
type compared struct {
	Host      side               `json:"host"`
	Plugin    side               `json:"plugin"`
	Conflicts []release.Conflict `json:"conflicts"`
	// Undecided is why it cannot be told; absent where it can.
	Undecided string `json:"undecided,omitempty"`
}

// compare fills in the conflicts. Its error is the verdict, nil if nothing is
// incompatible.
func (c *compared) compare(modules []string) error {
	err := c.told(modules)
	if err == nil {
		c.Conflicts = append(c.Conflicts, release.Conflicts(c.Host.Build, c.Plugin.Build, modules)...)
		err = incompatible(c.Conflicts, []string{c.Host.Name, c.Plugin.Name})
	}
	if errors.As(err, new(undecidedError)) {
		c.Undecided = err.Error()
	}
	return err
}

// told refuses what nothing can be learnt from: executables that do not tell
// what they were built of, and modules that neither has, such as one that was
// mistyped.
func (c *compared) told(modules []string) error {
	for _, s := range []side{c.Host, c.Plugin} {
		if s.Build == nil {
			return undecidedError{fmt.Errorf("want what %s was built of, found nothing: it is not of Go, or was stripped, or its release was published by an older one: give the executable", s.Name)}
		}
	}
	for _, path := range modules {
		if !c.Host.Build.Has(path) && !c.Plugin.Build.Has(path) {
			return undecidedError{fmt.Errorf("--module: want a module that %s or %s was built of, found %s in neither: check its path (go version -m lists them)", c.Host.Name, c.Plugin.Name, path)}
		}
	}
	return nil
}

func (c *compared) verdicts(modules []string) [][]string {
	if c.Undecided != "" && len(c.Conflicts) == 0 {
		return nil
	}
	if len(c.Conflicts) == 0 {
		if modules == nil {
			modules = release.ProtocolModules()
		}
		shared := func(path string) bool { return c.Host.Build.Has(path) && c.Plugin.Build.Has(path) }
		if !slices.ContainsFunc(modules, shared) {
			return [][]string{{"host and plugin have no protocol module in common"}}
		}
		return [][]string{{"host and plugin have the same protocol modules"}}
	}
	rows := [][]string{{"MODULE", "HOST", "PLUGIN", "VERDICT"}}
	for _, c := range c.Conflicts {
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
			unknown = undecidedError{fmt.Errorf("want versions of %s that can be compared, found %s in %s and %s in %s: build what has none with -buildvcs=true at a tag of its module and without replacing it by a directory, or name modules that have versions with --module", c.Path, dash(c.Host), args[0], dash(c.Plugin), args[1])}
		}
		if c.Incompatible {
			return fmt.Errorf("want compatible versions of %s, found %s in %s and %s in %s: build one of them with the other's", c.Path, c.Host, args[0], c.Plugin, args[1])
		}
	}
	return unknown
}
