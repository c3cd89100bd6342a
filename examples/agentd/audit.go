package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/examples/agentd/internal/audit"
)

const auditHelp = `Read what describes how software is built and run, and tell what can come to
mean something else tomorrow: images at latest or without a digest, pull
policies that keep a moving tag, actions at a branch, lock files that are
missing or do not match, a git tree that is at no tag, and scripts that use
programs and variables which they do not declare. Kubernetes manifests, Compose
files, Dockerfiles, CI files, shell scripts and the manifests of packages are
known by their names and contents.

Nothing that is read is executed, symbolic links are not followed, and the
network is used by --fix alone, which asks the registries of the images for their
digests, and GitHub for the commits of its actions.
A comment suppresses a finding on its line, or alone on the line before it:

  # agentd-audit: ignore image-digest-missing built in the same pipeline

The rules are in docs/audit.md.

Exit code 0 means that nothing was found at or above --fail-on, 1 that something
was, 2 wrong usage, 3 that it cannot be told because something could not be read
or written.`

// auditFlags are the flags of agentd audit.
type auditFlags struct {
	audit.Config
	registry    audit.RegistryConfig
	gitServer   audit.GitServerConfig
	fix, dryRun bool
	failOn      levelFlag
	output      auditFormat
}

func newAuditCommand() *cobra.Command {
	a := &auditFlags{failOn: levelFlag(audit.Warning), output: "text"}
	cmd := &cobra.Command{
		Use:   "audit PATH…",
		Short: "Find floating tags, missing digests and locks, and undeclared needs in files",
		Long:  auditHelp,
		Example: `  agentd audit .
  agentd audit -o sarif --fail-on error --exclude testdata deploy .github
  agentd audit --fix --dry-run deploy/compose.yaml
  agentd audit --require-tag --ignore image-variable .`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s wants the argument PATH, which is missing; see %s --help", cmd.CommandPath(), cmd.CommandPath())
			}
			return nil
		},
		RunE: a.run,
	}
	f := cmd.Flags()
	f.BoolVar(&a.fix, "fix", false, "pin images to the digests that their registries tell, and GitHub actions to commits")
	f.BoolVar(&a.dryRun, "dry-run", false, "with --fix: print the changes and make none")
	f.Var(&a.failOn, "fail-on", "the `level` from which findings fail the command: note, warning or error")
	f.VarP(&a.output, "output", "o", "how to print: text, json or sarif")
	f.StringSliceVar(&a.Exclude, "exclude", nil, "`patterns` of what is left out, of the path below PATH or of one name in it")
	f.StringSliceVar(&a.Ignore, "ignore", nil, "`rules` that are not looked for")
	f.StringSliceVar(&a.Tools, "declare-tools", nil, "`programs` that every script may use")
	f.StringSliceVar(&a.Env, "declare-env", nil, "`variables` that every script may use")
	f.BoolVar(&a.RequireTag, "require-tag", false, "make it an error if the git tree is not at the tag of one version, or has changes")
	f.StringVar(&a.registry.CAFile, "registry-ca", "", "PEM `file` of the authorities that may vouch for registries, instead of the system's")
	f.DurationVar(&a.registry.Timeout, "registry-timeout", 30*time.Second, "how long to ask for one image or action")
	f.StringVar(&a.gitServer.URL, "git-server", "https://github.com", "`URL` that the repositories of actions are below")
	return cmd
}

func (a *auditFlags) run(cmd *cobra.Command, args []string) error {
	if a.dryRun && !a.fix {
		return usagef("--dry-run shows what --fix would change: give both")
	}
	if a.dryRun && a.output != "text" {
		return usagef("--dry-run prints a diff: it goes with -o text, found -o %s", a.output)
	}
	a.Paths = args
	a.Progress = auditProgress(cmd.ErrOrStderr())
	auditor, err := audit.New(a.Config)
	if err != nil {
		return usagef("%w", err)
	}
	registry, err := audit.NewRegistry(a.registry)
	if err != nil {
		return usagef("--registry-timeout: %w", err)
	}
	a.gitServer.Timeout = a.registry.Timeout
	server, err := audit.NewGitServer(a.gitServer)
	if err != nil {
		return usagef("--git-server: %w", err)
	}
	report, err := auditor.Run(cmd.Context())
	if err == nil && a.fix {
		report, err = a.mend(cmd, auditor, report, registry, server)
	}
	if errors.Is(err, audit.ErrPath) {
		return usagef("%w", err)
	}
	if report != nil { // with an error: what is known all the same
		err = errors.Join(err, report.Incomplete(), a.print(cmd.OutOrStdout(), report))
	}
	if err != nil {
		return undecidedError{err}
	}
	if n := report.Count(audit.Level(a.failOn)); n > 0 {
		return fmt.Errorf("want nothing at or above %s, found %d of %s", a.failOn, n, counted(len(report.Findings), "finding"))
	}
	return nil
}

// auditProgress tells once a second what is being read.
func auditProgress(w io.Writer) func(files int, path string) {
	last := time.Now()
	return func(files int, path string) {
		if now := time.Now(); now.Sub(last) >= time.Second {
			last = now
			say(w, "%s read, now at %s", counted(files, "file"), oneLine(path))
		}
	}
}

// mend writes what registries and git servers tell into the files, or only shows it, and
// returns what is found then: with its digest, an image is no longer kept by
// the wrong pull policy either. A file that cannot be changed is an error, and the
// others are changed.
func (a *auditFlags) mend(cmd *cobra.Command, auditor *audit.Audit, report *audit.Report, images audit.Images, actions audit.Actions) (*audit.Report, error) {
	err := report.Resolve(cmd.Context(), images, actions, func(done, of int, image string) {
		say(cmd.ErrOrStderr(), "%d of %d asked for: %s", done, of, oneLine(image))
	})
	if err != nil {
		return nil, err
	}
	changes, err := report.Changes()
	for i := range changes {
		c := &changes[i]
		if !a.dryRun {
			err = errors.Join(err, c.Apply())
			continue
		}
		if _, err := fmt.Fprint(cmd.OutOrStdout(), lineDiff(c.Path, string(c.Before), string(c.After))); err != nil {
			return nil, err
		}
	}
	if a.dryRun {
		return report, err
	}
	again, failed := auditor.Run(cmd.Context())
	if again != nil {
		again = report.Took(again)
	}
	return again, errors.Join(err, failed)
}

// print writes the report in the form that was asked for.
func (a *auditFlags) print(w io.Writer, report *audit.Report) error {
	switch a.output {
	case "json":
		return printJSON(w, report)
	case "sarif":
		return printJSON(w, report.SARIF(version))
	}
	open, suppressed, fixed := 0, 0, 0
	for i := range report.Findings {
		f := &report.Findings[i]
		what := string(f.Level)
		switch {
		case f.Suppressed != "":
			suppressed++
			continue
		case !f.Open():
			fixed++
			what = "fixed"
		default:
			open++
		}
		line := fmt.Sprintf("%s: %s: %s: %s", place(f), what, f.Rule, f.Message)
		if f.Unfixed != "" {
			line += " (not fixed: " + f.Unfixed + ")"
		}
		if _, err := fmt.Fprintln(w, oneLine(line)); err != nil {
			return err
		}
	}
	for _, u := range report.Unread {
		if _, err := fmt.Fprintln(w, oneLine(u.Path+": not read: "+u.Reason)); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%s judged: %s, %d fixed, %d suppressed.\n", counted(report.Files, "file"), counted(open, "finding"), fixed, suppressed)
	return err
}

// place is where a finding is, as compilers write it.
func place(f *audit.Finding) string {
	if f.Line == 0 {
		return f.Path
	}
	return fmt.Sprintf("%s:%d:%d", f.Path, f.Line, f.Column)
}

// levelFlag is a level as a flag.
type levelFlag audit.Level

// String, Set and Type implement pflag.Value.
func (l *levelFlag) String() string { return string(*l) }

func (l *levelFlag) Set(s string) error {
	level, err := audit.ParseLevel(s)
	if err == nil {
		*l = levelFlag(level)
	}
	return err
}

func (l *levelFlag) Type() string { return "level" }

// auditFormat is the value of -o here.
type auditFormat string

// String, Set and Type implement pflag.Value.
func (f *auditFormat) String() string { return string(*f) }

func (f *auditFormat) Set(s string) error {
	if s != "text" && s != "json" && s != "sarif" {
		return fmt.Errorf("want text, json or sarif, found %q", s)
	}
	*f = auditFormat(s)
	return nil
}

func (f *auditFormat) Type() string { return "format" }
