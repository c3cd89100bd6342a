package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/upgrade"
)

// shortProbation is that of agents whose swaps are measured to their end: it
// only keeps a swap from it.
const shortProbation = 200 * time.Millisecond

// site is one agentd with its repository and its place in the registry, which
// is upgraded through etcd, as an operator does it.
type site struct {
	*server
	*releases
	id        string
	directory *agent.Directory
}

// startSite runs agentd until it is registered and serves.
func (b *bench) startSite(ctx context.Context, probation time.Duration, more ...string) (*site, error) {
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
	s := &site{id: filepath.Base(dir)}
	if s.releases, err = newReleases("agentd", binary, dir); err != nil {
		return nil, err
	}
	if s.directory, err = agent.OpenDirectory(agent.EtcdConfig{Endpoints: []string{etcd}}); err != nil {
		return nil, err
	}
	args := []string{
		"run", "--id", s.id, "--etcd", etcd,
		"--state-dir", filepath.Join(dir, "state"), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
		"--repo", repoDir(dir), "--trust", publicKey(dir),
		"--probation", probation.String(), "--retention", "1s", "--log-format", "json",
	}
	if s.server, err = b.launch(ctx, "records on ", binary, append(args, more...)...); err != nil {
		return nil, err
	}
	s.spool = filepath.Join(dir, "state", "spool")
	return s, nil
}

func (s *site) base() *server { return s.server }

// swap returns once the release has been committed.
func (s *site) swap(ctx context.Context, _ int) error {
	pin, err := s.next()
	if err != nil {
		return err
	}
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

// settled has nothing to wait for: swap has returned after the commit.
func (s *site) settled(context.Context, int) error { return nil }

// close ends the agent; the run's end would do it too.
func (s *site) close() error {
	_ = s.directory.Close() // its context has ended with it
	return s.stop()
}
