package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/upgrade"
)

const programName = "agentd"

// probation of the measured agents. It only keeps a swap from its end, so it
// is short.
const probation = 200 * time.Millisecond

// site is one agentd with its repository and its place in the registry.
type site struct {
	*server
	id, dir    string
	binary     string
	repository *upgrade.Repository
	directory  *agent.Directory
	released   int
}

// startSite runs agentd until it is registered and serves.
func (b *bench) startSite(ctx context.Context) (*site, error) {
	etcd, err := b.startEtcd(ctx)
	if err != nil {
		return nil, err
	}
	binary, err := b.build(ctx, "agentd", "")
	if err != nil {
		return nil, err
	}
	dir, err := b.path("agentd")
	if err != nil {
		return nil, err
	}
	s := &site{id: filepath.Base(dir), dir: dir, binary: binary}
	if s.repository, err = newRepository(dir); err != nil {
		return nil, err
	}
	if s.directory, err = agent.OpenDirectory(agent.EtcdConfig{Endpoints: []string{etcd}}); err != nil {
		return nil, err
	}
	s.server, err = b.launch(ctx, "records on ", binary, "run", "--id", s.id, "--etcd", etcd,
		"--state-dir", filepath.Join(dir, "state"), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
		"--repo", repoDir(dir), "--trust", publicKey(dir),
		"--probation", probation.String(), "--retention", "1s", "--log-format", "json")
	return s, err
}

// newRepository makes a key pair in dir, and a repository in repoDir that it
// signs.
func newRepository(dir string) (*upgrade.Repository, error) {
	keys := filepath.Join(dir, "keys")
	if _, err := upgrade.GenerateKey(keys); err != nil {
		return nil, err
	}
	key, err := upgrade.LoadPrivateKey(filepath.Join(keys, upgrade.PrivateKeyFile))
	if err != nil {
		return nil, err
	}
	return upgrade.NewRepository(upgrade.RepositoryConfig{Dir: repoDir(dir), Key: key})
}

func repoDir(dir string) string   { return filepath.Join(dir, "repo") }
func publicKey(dir string) string { return filepath.Join(dir, "keys", upgrade.PublicKeyFile) }

// release publishes the next version, and removes the binary of the one
// before to save the disk.
func (s *site) release(ctx context.Context) (upgrade.Pin, error) {
	s.released++
	version := fmt.Sprintf("1.0.%d", 10001+s.released)
	path := filepath.Join(s.dir, "next")
	if err := restamp(s.binary, path, version); err != nil {
		return upgrade.Pin{}, err
	}
	if err := os.RemoveAll(filepath.Join(repoDir(s.dir), "blobs")); err != nil {
		return upgrade.Pin{}, err
	}
	return s.repository.Publish(ctx, upgrade.Release{Name: programName, Version: version, Binaries: []upgrade.Binary{{Path: path}}})
}

// upgrade has the agent replace itself by pin and returns once it has been
// committed.
func (s *site) upgrade(ctx context.Context, pin upgrade.Pin) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	order, err := s.directory.Order(ctx, s.id, upgrade.Request{Pin: pin, By: "bench"})
	if err != nil {
		return err
	}
	status, err := s.directory.Follow(ctx, order, s.id, func(upgrade.Status) {})
	if err != nil {
		return err
	}
	if status.State != upgrade.Committed {
		return fmt.Errorf("want %s committed, found it %s: %s", pin, status.State, status.Reason)
	}
	return nil
}

// close ends the agent; the run's end would do it too.
func (s *site) close() error {
	_ = s.directory.Close() // its context has ended with it
	return s.stop()
}
