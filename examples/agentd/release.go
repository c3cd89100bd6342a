package main

import (
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/release/bsdiff"
	"github.com/perennial-go/perennial/upgrade/release/oci"
)

func newReleaseCommand() *cobra.Command {
	return newGroup("release", "Publish signed releases, and look at those that are",
		"  agentd release build --key keys/release.key --repo repo --version 1.1.0 ./agentd",
		newReleaseBuildCommand(),
		newReleaseListCommand(),
		newReleaseResolveCommand(),
		newReleasePullCommand(),
		newReleaseShowCommand(),
		newReleaseVerifyCommand(),
		newReleaseDiffCommand(),
		newReleaseConflictsCommand(),
		newReleaseYankCommand(),
		newReleaseRefreshCommand(),
		newReleasePushCommand(),
	)
}

// publisher opens a repository for writing.
type publisher struct {
	key, dir, name, extend string
	acceptOlder            bool
	validity               time.Duration

	roots    rootFlags
	password passwordFlag
	plain    bool
}

func (p *publisher) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.key, "key", "", "private key `file`, as keys generate wrote it")
	cmd.Flags().StringVar(&p.dir, "repo", "", "`directory` of the repository")
	cmd.Flags().StringVar(&p.name, "name", programName, "`name` of the program; agents ask for it")
	cmd.Flags().StringVar(&p.extend, "extend", "", "public key `file` of other keys whose index may be extended, for a change of keys")
	cmd.Flags().BoolVar(&p.acceptOlder, "accept-older-index", false, "go on from the index that is there, also if it is older than the one that was signed last from here")
	cmd.Flags().DurationVar(&p.validity, "validity", 90*24*time.Hour, "how long agents take the index for current that is signed now")
	p.roots.add(cmd)
	p.password.add(cmd)
	require(cmd, "key", "keys/release.key")
	require(cmd, "repo", "repo")
}

func (p *publisher) open() (*release.Repository, error) {
	if oci.IsLocation(p.dir) {
		return nil, usagef("--repo: %s is no directory: publish to a directory, and then copy it with release push", p.dir)
	}
	if err := errors.Join(positive("validity", p.validity), programFlag(p.name)); err != nil {
		return nil, err
	}
	trust, err := p.trust()
	if err != nil {
		return nil, err
	}
	key, err := release.OpenPrivateKey(p.key, p.password.read)
	if err != nil {
		return nil, err
	}
	state, readOnly, err := p.remember()
	if err != nil {
		return nil, err
	}
	return release.NewRepository(release.RepositoryConfig{
		Dir: p.dir, Key: key, Trust: trust, PlainOnly: p.plain, Differs: []release.Differ{bsdiff.Differ{}},
		StateDir: state, StateReadOnly: readOnly, AcceptOlder: p.acceptOlder, Validity: p.validity,
	})
}

// trust says whose index may be extended beside that of the key itself.
func (p *publisher) trust() (trust release.Trust, err error) {
	if p.roots.roots != "" || p.roots.threshold != 0 {
		if trust, err = p.roots.open(); err != nil {
			return release.Trust{}, err
		}
	}
	if p.extend != "" {
		others, err := release.LoadTrust(p.extend)
		if err != nil {
			return release.Trust{}, err
		}
		trust.Keys = others.Keys
	}
	return trust, nil
}

// programFlag refuses what is no name of a program.
func programFlag(name string) error {
	if err := release.CheckName(name); err != nil {
		return usagef("--name: %w", err)
	}
	return nil
}

// programName is what agentd's releases are signed for.
const programName = "agentd"

// reader opens a repository for reading.
type reader struct {
	repository

	name  string
	trust trustFlags
}

func (r *reader) add(cmd *cobra.Command) {
	r.repository.add(cmd)
	r.addTrust(cmd)
}

func (r *reader) addTrust(cmd *cobra.Command) {
	r.trust.add(cmd)
	cmd.Flags().StringVar(&r.name, "name", programName, "`name` of the program")
}

func (r *reader) open(logger *slog.Logger) (release.Source, release.Trust, error) {
	trust, err := r.trust.open()
	if err != nil {
		return nil, release.Trust{}, err
	}
	source, err := r.repository.open(logger)
	return source, trust, err
}

func (r *reader) client() (*release.Client, error) { return r.logging(nil) }

// logging is client with a logger for the cache, which may be nil.
func (r *reader) logging(logger *slog.Logger) (*release.Client, error) {
	if err := programFlag(r.name); err != nil {
		return nil, err
	}
	source, trust, err := r.open(logger)
	if err != nil {
		return nil, err
	}
	return release.NewClient(release.ClientConfig{Source: source, Trust: trust, Name: r.name})
}
