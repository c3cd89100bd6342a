package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/examples/agentd/internal/gitversion"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/release/oci"
)

// building is what agentd release build is told.
type building struct {
	publisher
	release.Release
	platforms []string
	source    gitversion.Repository

	pushTo  string
	pushing pushing
}

const buildHelp = `build writes the executables, a signed manifest and the signed index, and
prints the pin of the release. Give one BINARY a platform; the platform of a
Go executable is read from the file, and so are the commit, the toolchain and
the modules that the manifest tells. An executable that tells another platform
than --platform is refused, by its record of the build or by its header (ELF,
Mach-O, PE). A version is never replaced: build the
same content again and damaged files are mended, other content is refused.

Without --version the version is that of the git repository in --source: 1.4.2
at the tag v1.4.2, 1.4.3-dev.7+g0123456789ab seven commits later. A tree with
uncommitted changes is refused unless --allow-dirty, and then marked .dirty.

The release is dated by SOURCE_DATE_EPOCH (seconds), else by the commit, else
by the clock. The first two make the same manifest of the same executables.
The index is always dated by the clock: its expiry protects hosts.

Executables whose main package, commit, toolchain or versions of modules differ
from one platform to the other are published with a warning.

Each executable is stored compressed as well, and with --delta-from as deltas
from the executables of older releases in the same repository: agents take what
costs them the fewest bytes. A delta takes about ten times the executable in
memory and a second for each 2 MiB. Executables that are linked with
-ldflags=-w make much smaller deltas than those with compressed debug
information.

With --push the repository is then copied to that location, as by release push
with the keys that count here; a push that fails is taken up by the same command
or by release push. --cosign-key signs the pushed releases for cosign; where another
key has signed some of them, give its public key with --extend.`

func newReleaseBuildCommand() *cobra.Command {
	var b building
	cmd := &cobra.Command{
		Use:   "build BINARY...",
		Short: "Add a signed release to a repository directory",
		Long:  buildHelp,
		Example: `  agentd release build --key keys/release.key --repo repo --version 1.1.0 ./agentd
  agentd release build --key keys/release.key --repo repo --source . dist/agentd-amd64 dist/agentd-arm64
  agentd release build --key keys/release.key --repo repo --version 1.1.1 --delta-from 3 ./agentd
  agentd release build --key keys/release.key --repo repo --version 1.1.2 --push oci://registry.example.com/agentd --cosign-key cosign.key ./agentd
  agentd release build --key keys/release.key --repo repo --version 1.2.0 --requires '>=1.0.0' dist/agentd-amd64 dist/agentd-arm64`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s wants at least one BINARY, found none; see %s --help", cmd.CommandPath(), cmd.CommandPath())
			}
			return nil
		},
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		b.Progress = func(line string) { say(cmd.ErrOrStderr(), "%s", line) }
		built, err := b.run(cmd.Context(), args, cmd.ErrOrStderr())
		if built == nil {
			return err
		}
		// A release that could not be pushed is published all the same.
		if output.json() {
			return errors.Join(err, printJSON(cmd.OutOrStdout(), built))
		}
		return errors.Join(err, built.print(cmd.OutOrStdout()))
	}
	b.publisher.add(cmd)
	f := cmd.Flags()
	f.StringVar(&b.Version, "version", "", "exact SemVer `version` of the release; default that of the git repository")
	f.StringVar(&b.source.Dir, "source", ".", "`directory` of the git repository that tells the version")
	f.BoolVar(&b.source.AllowDirty, "allow-dirty", false, "take a tree with uncommitted changes, and mark the version .dirty")
	f.StringVar(&b.Requires.Upgrade, "requires", "", "`constraint` on the version that is upgraded from")
	f.StringVar(&b.Requires.PluginAPI, "requires-plugin-api", "", "`constraint` on the host's plugin API")
	f.StringVar(&b.Requires.ConfigSchema, "requires-config-schema", "", "`constraint` on the host's configuration schema")
	f.StringVar(&b.Revision, "revision", "", "source `revision`, for people; default the commit that the executables tell")
	f.StringSliceVar(&b.platforms, "platform", nil, "`os/arch` of each BINARY in order, for those that are not written in Go")
	takesVariable(cmd, "version")
	f.IntVar(&b.DeltaFrom, "delta-from", 0, "make deltas from the last `n` releases below this one, at most 16, and from as many withdrawn ones among them; pre-releases count for a pre-release only")
	f.BoolVar(&b.plain, "plain", false, "store the executables as they are only")
	f.StringVar(&b.pushTo, "push", "", "`location` to copy the repository to afterwards: oci://host/repository or oci-layout:DIR")
	b.pushing.add(cmd)
	return cmd
}

// buildOutcome is what release build prints.
type buildOutcome struct {
	Name      string      `json:"name"`
	Pin       release.Pin `json:"pin"`
	Reference string      `json:"reference"`
	Pushed    *oci.Pushed `json:"pushed,omitempty"`
}

func (o *buildOutcome) print(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "released %s %s\n", o.Name, o.Reference); err != nil || o.Pushed == nil {
		return err
	}
	return printPushed(w, o.Pushed)
}

// run returns what was published also where the push after it has failed.
func (b *building) run(ctx context.Context, args []string, progress io.Writer) (*buildOutcome, error) {
	repo, err := b.prepare(ctx, args)
	if err != nil {
		return nil, err
	}
	pin, err := repo.Publish(ctx, b.Release)
	if err != nil {
		return nil, err
	}
	done := &buildOutcome{Name: b.Name, Pin: pin, Reference: pin.String()}
	if b.pushTo == "" {
		return done, nil
	}
	b.pushing.Dir, b.pushing.Name, b.pushing.Trust = b.dir, b.Name, repo.Trust()
	if done.Pushed, err = b.pushing.run(ctx, progress); err != nil {
		err = fmt.Errorf("released, but not pushed: %w", err)
	}
	return done, err
}

// prepare finds out all that is to be published, and whatever would be in the
// way of it or of the push.
func (b *building) prepare(ctx context.Context, args []string) (_ *release.Repository, err error) {
	b.Name = b.publisher.name
	if b.Created, err = sourceDate(os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		return nil, err
	}
	if err := b.aim(); err != nil {
		return nil, err
	}
	if b.Version == "" {
		err = b.versionFromGit(ctx, args)
	} else {
		err = exactVersion("--version", b.Version)
	}
	if err != nil {
		return nil, err
	}
	if b.Binaries, err = binaries(args, b.platforms, b.Version); err != nil {
		return nil, err
	}
	if err := b.Validate(); err != nil {
		return nil, usageError{err}
	}
	repo, err := b.open()
	if err != nil {
		return nil, err
	}
	for _, warning := range disagreements(b.Binaries) {
		b.Progress(warning)
	}
	return repo, nil
}

func (b *building) aim() error {
	if b.pushTo != "" {
		return b.pushing.aim("--push", b.pushTo)
	}
	if b.pushing.cosignKey != "" {
		return usagef("--cosign-key: signatures of cosign lie in OCI registries and layouts: give --push oci://host/repository or oci-layout:DIR as well, or sign with release push later")
	}
	return nil
}

// versionFromGit names the release, and refuses executables that were built
// from anything but what the name says.
func (b *building) versionFromGit(ctx context.Context, paths []string) error {
	v, err := b.source.Version(ctx)
	if err != nil {
		return err
	}
	for _, path := range paths {
		build, err := release.ReadBuild(path)
		switch {
		case err != nil || build.Revision == "":
			// It does not tell.
		case build.Revision != v.Revision:
			return fmt.Errorf("want %s built from commit %.12s, which is version %s, found that it was built from %.12s: build it again, or give --version", path, v.Revision, v.Version, build.Revision)
		case build.Modified && !v.Dirty:
			return fmt.Errorf("want %s built from commit %.12s, which is version %s, found that the tree had other changes: build it again, or give --version", path, v.Revision, v.Version)
		}
	}
	b.Version = v.Version
	if b.Revision == "" {
		if b.Revision = v.Revision; v.Dirty {
			b.Revision += "+dirty"
		}
	}
	if b.Created.IsZero() && !v.Dirty {
		b.Created = v.Time
	}
	return nil
}

// sourceDate reads SOURCE_DATE_EPOCH (reproducible-builds.org); empty is no
// date.
func sourceDate(seconds string) (time.Time, error) {
	if seconds == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || n < 0 || n > 1<<37 {
		return time.Time{}, usagef("SOURCE_DATE_EPOCH: want seconds since 1970, such as 1767225600, found %q", seconds)
	}
	return time.Unix(n, 0).UTC(), nil
}

// binaries finds out the platform of each file.
func binaries(paths, platforms []string, version string) ([]release.Binary, error) {
	if len(platforms) > 0 && len(platforms) != len(paths) {
		return nil, usagef("--platform: want one for each of the %d BINARY arguments, found %d", len(paths), len(platforms))
	}
	found := make([]release.Binary, len(paths))
	for i, path := range paths {
		b := release.Binary{Path: path}
		if len(platforms) > 0 {
			var ok bool
			if b.OS, b.Arch, ok = strings.Cut(platforms[i], "/"); !ok || b.OS == "" || b.Arch == "" {
				return nil, usagef("--platform: want os/arch, such as linux/amd64, found %q", platforms[i])
			}
		}
		if err := inspectBinary(&b, version); err != nil {
			return nil, err
		}
		found[i] = b
	}
	return found, nil
}
