package main

import (
	"debug/buildinfo"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/release"
)

func newReleaseBuildCommand() *cobra.Command {
	var p publisher
	var rel release.Release
	var platforms []string
	cmd := &cobra.Command{
		Use:   "build BINARY...",
		Short: "Add a signed release to a repository directory",
		Long: `build writes the executables, a signed manifest and the signed index, and
prints the pin of the release. Give one BINARY a platform; the platform of a
Go executable is read from the file. A version is never replaced: build the
same content again and nothing changes, other content is refused.

Each executable is stored compressed as well, and with --delta-from as deltas
from the executables of older releases in the same repository: agents take what
costs them the fewest bytes. A delta takes about ten times the executable in
memory and a second for each 2 MiB. Executables that are linked with
-ldflags=-w make much smaller deltas than those with compressed debug
information.`,
		Example: `  agentd release build --key keys/release.key --repo repo --version 1.1.0 ./agentd
  agentd release build --key keys/release.key --repo repo --version 1.1.1 --delta-from 3 ./agentd
  agentd release build --key keys/release.key --repo repo --version 1.2.0 --requires '>=1.0.0' dist/agentd-amd64 dist/agentd-arm64`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s wants at least one BINARY, found none; see %s --help", cmd.CommandPath(), cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			rel.Name = p.name
			rel.Progress = func(line string) { say(cmd.ErrOrStderr(), "%s", line) }
			var err error
			if rel.Binaries, err = binaries(args, platforms, rel.Version); err != nil {
				return err
			}
			repo, err := p.open()
			if err != nil {
				return err
			}
			pin, err := repo.Publish(cmd.Context(), rel)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "released %s %s\n", rel.Name, pin)
			return err
		},
	}
	p.add(cmd)
	cmd.Flags().StringVar(&rel.Version, "version", "", "exact SemVer `version` of the release")
	cmd.Flags().StringVar(&rel.Requires.Upgrade, "requires", "", "`constraint` on the version that is upgraded from")
	cmd.Flags().StringVar(&rel.Requires.PluginAPI, "requires-plugin-api", "", "`constraint` on the host's plugin API")
	cmd.Flags().StringVar(&rel.Requires.ConfigSchema, "requires-config-schema", "", "`constraint` on the host's configuration schema")
	cmd.Flags().StringVar(&rel.Revision, "revision", "", "source `revision`, for people")
	cmd.Flags().StringSliceVar(&platforms, "platform", nil, "`os/arch` of each BINARY in order, for those that are not written in Go")
	cmd.Flags().IntVar(&rel.DeltaFrom, "delta-from", 0, "make deltas from the last `n` releases below this one, at most 16")
	cmd.Flags().BoolVar(&p.plain, "plain", false, "store the executables as they are only")
	require(cmd, "version", "1.1.0")
	return cmd
}

// binaries finds out the platform of each file.
func binaries(paths, platforms []string, version string) ([]release.Binary, error) {
	if len(platforms) > 0 && len(platforms) != len(paths) {
		return nil, usagef("--platform: want one for each of the %d BINARY arguments, found %d", len(paths), len(platforms))
	}
	found := make([]release.Binary, len(paths))
	for i, path := range paths {
		b := release.Binary{Path: path}
		var ok bool
		if len(platforms) > 0 {
			if b.OS, b.Arch, ok = strings.Cut(platforms[i], "/"); !ok {
				return nil, usagef("--platform: want os/arch, such as linux/amd64, found %q", platforms[i])
			}
		} else if err := inspectBinary(&b, version); err != nil {
			return nil, err
		}
		found[i] = b
	}
	return found, nil
}

// inspectBinary reads the platform, and refuses an executable that will
// call itself by another version than the release that it is in.
func inspectBinary(b *release.Binary, version string) error {
	if _, err := release.ParseVersion(version); err != nil {
		return fmt.Errorf("--version: %w", err)
	}
	info, err := buildinfo.ReadFile(b.Path)
	if err != nil {
		return fmt.Errorf("the platform of %s is wanted and cannot be read from it; if it is an executable that is not written in Go, give --platform: %w", b.Path, err)
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS":
			b.OS = s.Value
		case "GOARCH":
			b.Arch = s.Value
		case "-ldflags":
			stamped, ok := stampedVersion(s.Value)
			if ok && stamped != version {
				return fmt.Errorf("%s was built with version %s, the release is to be %s: build it again with -ldflags \"-X main.version=%s\"", b.Path, stamped, version, version)
			}
		}
	}
	return nil
}

// stampedVersion reads main.version out of a build's linker flags.
func stampedVersion(ldflags string) (string, bool) {
	_, after, ok := strings.Cut(ldflags, "main.version=")
	if !ok {
		return "", false
	}
	fields := strings.FieldsFunc(after, func(r rune) bool { return r == ' ' || r == '"' || r == '\'' })
	if len(fields) == 0 {
		return "", false
	}
	return fields[0], true
}
