package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/release/bsdiff"
)

func newReleaseCommand() *cobra.Command {
	return newGroup("release", "Publish signed releases in a repository directory",
		"  agentd release build --key keys/release.key --repo repo --version 1.1.0 ./agentd",
		newReleaseBuildCommand(),
		newReleaseListCommand(),
		newReleaseYankCommand(),
		newReleaseRefreshCommand(),
	)
}

// publisher opens a repository for writing.
type publisher struct {
	key, dir, name string
	plain          bool
}

func (p *publisher) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.key, "key", "", "private key `file`, as keys generate wrote it")
	cmd.Flags().StringVar(&p.dir, "repo", "", "`directory` of the repository")
	cmd.Flags().StringVar(&p.name, "name", programName, "`name` of the program; agents ask for it")
	require(cmd, "key", "keys/release.key")
	require(cmd, "repo", "repo")
}

func (p *publisher) open() (*release.Repository, error) {
	key, err := release.LoadPrivateKey(p.key)
	if err != nil {
		return nil, err
	}
	return release.NewRepository(release.RepositoryConfig{Dir: p.dir, Key: key, PlainOnly: p.plain, Differs: []release.Differ{bsdiff.Differ{}}})
}

// programName is what agentd's releases are signed for.
const programName = "agentd"

// reader opens a repository for reading.
type reader struct {
	repo, trust, name string
}

func (r *reader) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.repo, "repo", "", "repository: a `directory` or an http(s) URL")
	cmd.Flags().StringVar(&r.trust, "trust", "", "public key `file` of the publisher")
	cmd.Flags().StringVar(&r.name, "name", programName, "`name` of the program")
}

func (r *reader) open() (release.Source, release.Trust, error) {
	source, err := release.NewSource(r.repo)
	if err != nil {
		return nil, release.Trust{}, err
	}
	trust, err := release.LoadTrust(r.trust)
	return source, trust, err
}

func (r *reader) client() (*release.Client, error) {
	source, trust, err := r.open()
	if err != nil {
		return nil, err
	}
	return release.NewClient(release.ClientConfig{Source: source, Trust: trust, Name: r.name})
}

func (r *reader) index(ctx context.Context) (*release.Index, error) {
	client, err := r.client()
	if err != nil {
		return nil, err
	}
	return client.Index(ctx)
}
