package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/release"
)

// sides reads what diff and conflicts compare: releases of a repository, and
// files.
type sides struct {
	chooser
	platform string
}

func (s *sides) add(cmd *cobra.Command) {
	s.chooser.add(cmd)
	cmd.Flags().StringVar(&s.platform, "platform", runtime.GOOS+"/"+runtime.GOARCH, "`os/arch` of the binaries of releases")
}

// side is one of the two that are compared.
type side struct {
	Name     string            `json:"name"`
	Revision string            `json:"revision,omitempty"`
	Size     int64             `json:"size"`
	Requires *release.Requires `json:"requires,omitempty"` // nil of a file
	Build    *release.Build    `json:"-"`
}

// isRelease tells a release from a file: it is a version, a pin or a range.
func isRelease(name string) bool {
	version, _, _ := strings.Cut(name, "@")
	_, err := release.ParseVersion(version)
	if err != nil {
		_, err = release.ParseRange(name)
	}
	return err == nil
}

// read takes a version, a pin or a range for a release, and anything else for
// a file. What a range stands for w is told.
func (s *sides) read(ctx context.Context, name string, w io.Writer) (side, error) {
	if !isRelease(name) {
		return fileSide(name)
	}
	if s.location == "" || !s.trust.given() {
		return side{}, usagef("%s is a release, which wants --repo and --trust (or --trust-roots); a file of that name is ./%s", name, name)
	}
	client, err := s.client()
	if err != nil {
		return side{}, err
	}
	if name, err = s.exact(ctx, client, name, w); err != nil {
		return side{}, err
	}
	d, err := client.Describe(ctx, name)
	if err != nil {
		return side{}, err
	}
	goos, goarch, ok := strings.Cut(s.platform, "/")
	if !ok {
		return side{}, usagef("--platform: want os/arch, such as linux/amd64, found %q", s.platform)
	}
	p, err := d.Manifest.Platform(goos, goarch)
	if err != nil {
		return side{}, err
	}
	return side{Name: d.Pin.String(), Revision: d.Manifest.Revision, Size: p.Size, Requires: &d.Manifest.Requires, Build: p.Build}, nil
}

func newReleaseDiffCommand() *cobra.Command {
	var s sides
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Compare two releases, or two executables: commit, toolchain, modules, sizes",
		Long: `diff tells what changed from A to B, each a release in the repository (VERSION,
VERSION@sha256:DIGEST or a RANGE, resolved once) or the path of an executable: the commit, the version of Go, the modules that were
added, removed or changed, the size, and what a host must fulfil.

Exit code 0 also means that something changed.`,
		Example: `  agentd release diff --repo repo --trust keys/release.pub 1.0.0 1.1.0
  agentd release diff --repo repo --trust keys/release.pub 1.0.0 ^1.1.0
  agentd release diff ./agentd-old ./agentd-new`,
		Args: takes("A", "B"),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a, err := s.read(cmd.Context(), args[0], cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		b, err := s.read(cmd.Context(), args[1], cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		d := release.Compare(a.Build, b.Build)
		if output.json() {
			return printJSON(cmd.OutOrStdout(), map[string]any{"from": a, "to": b, "build": d})
		}
		_, err = io.WriteString(cmd.OutOrStdout(), diffText(a, b, d))
		return err
	}
	s.add(cmd)
	return cmd
}

func diffText(a, b side, d release.Difference) string {
	var text strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&text, format+"\n", args...) }
	say("from %s\nto   %s", a.Name, b.Name)
	say("commit: %s", arrow(dash(a.Revision), dash(b.Revision)))
	say("size: %s (%+d bytes)", arrow(fmt.Sprint(a.Size), fmt.Sprint(b.Size)), b.Size-a.Size)
	if a.Requires != nil && b.Requires != nil {
		say("requires: %s", arrow(a.Requires.Demands(), b.Requires.Demands()))
	}
	for _, s := range []side{a, b} {
		if s.Build == nil {
			say("modules: not told by %s, which is not of Go or was published by an older release", s.Name)
			return text.String()
		}
	}
	say("go: %s", arrow(a.Build.Go, b.Build.Go))
	for _, m := range d.Removed {
		say("- %s %s", m.Path, m.Version)
	}
	for _, m := range d.Added {
		say("+ %s %s", m.Path, m.Version)
	}
	for _, m := range d.Changed {
		say("~ %s %s -> %s", m.Path, m.From, m.To)
	}
	say("modules: %d removed, %d added, %d changed", len(d.Removed), len(d.Added), len(d.Changed))
	return text.String()
}

// arrow is a value that may have changed.
func arrow(from, to string) string {
	if from == to {
		return from + ", unchanged"
	}
	return from + " -> " + to
}
