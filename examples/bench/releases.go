package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/perennial-go/perennial/upgrade/release"
)

// releases is a repository of one program's versions, which differ in nothing
// but their number.
type releases struct {
	name, binary, dir string
	repository        *release.Repository
	released          int
	// ready are those that have been published and not been asked for.
	ready []release.Pin
}

func newReleases(name, binary, dir string) (*releases, error) {
	repository, err := newRepository(dir)
	return &releases{name: name, binary: binary, dir: dir, repository: repository}, err
}

// newRepository makes a key pair in dir, and a repository in repoDir that it
// signs.
func newRepository(dir string) (*release.Repository, error) {
	return newRepositoryOf(dir, release.RepositoryConfig{PlainOnly: true})
}

// newRepositoryOf completes cfg.
func newRepositoryOf(dir string, cfg release.RepositoryConfig) (*release.Repository, error) {
	keys := filepath.Join(dir, "keys")
	if _, err := release.GenerateKey(keys); err != nil {
		return nil, err
	}
	var err error
	if cfg.Key, err = release.LoadPrivateKey(filepath.Join(keys, release.PrivateKeyFile)); err != nil {
		return nil, err
	}
	cfg.Dir = repoDir(dir)
	return release.NewRepository(cfg)
}

func repoDir(dir string) string   { return filepath.Join(dir, "repo") }
func publicKey(dir string) string { return filepath.Join(dir, "keys", release.PublicKeyFile) }

// prepare publishes the next version. The binaries of those that were asked
// for are removed to save the disk.
func (r *releases) prepare(ctx context.Context) error {
	r.released++
	version := fmt.Sprintf("1.0.%d", 10001+r.released)
	path := filepath.Join(r.dir, "next")
	if err := restamp(r.binary, path, version); err != nil {
		return err
	}
	if len(r.ready) == 0 {
		if err := os.RemoveAll(filepath.Join(repoDir(r.dir), "blobs")); err != nil {
			return err
		}
	}
	pin, err := r.repository.Publish(ctx, release.Release{Name: r.name, Version: version, Binaries: []release.Binary{{Path: path}}})
	r.ready = append(r.ready, pin)
	return err
}

// next is the version to ask for.
func (r *releases) next() (release.Pin, error) {
	if len(r.ready) == 0 {
		return release.Pin{}, errors.New("no release has been prepared")
	}
	pin := r.ready[0]
	r.ready = r.ready[1:]
	return pin, nil
}
