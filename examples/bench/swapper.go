package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"time"
)

// swapper is a server that can replace its process.
type swapper interface {
	// prepare does what a swap needs and what is no part of it.
	prepare(context.Context) error
	// swap asks the process pid for one, and returns when it has been accepted
	// or is over.
	swap(ctx context.Context, pid int) error
	// settled waits after a swap until the next may be asked for. old is the
	// process that was replaced.
	settled(ctx context.Context, old int) error
	base() *server
	close() error
}

// swapLimit bounds the end of a replaced process after its drain.
const swapLimit = 60 * time.Second

// errNotCommitted is a swap that has ended with the process before.
var errNotCommitted = errors.New("the swap was not committed")

// lone is the package upgrade in a minimal server.
type lone struct {
	*server
	*releases
	asked  string // the version that was asked for last
	offset int64  // of the log then
}

func (p *lone) base() *server { return p.server }
func (p *lone) close() error  { return p.stop() }

// swap returns when the order has been accepted.
func (p *lone) swap(ctx context.Context, _ int) error {
	pin, err := p.next()
	if err != nil {
		return err
	}
	p.asked, p.offset = pin.Version, int64(len(p.written(0)))
	body, err := json.Marshal(pin)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/v1/upgrade", bytes.NewReader(body))
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	_, err = exchange(&http.Client{Transport: transport, Timeout: clientLimit}, req, http.StatusAccepted)
	return err
}

// settled waits for the commit: the package itself waits for the drain.
func (p *lone) settled(ctx context.Context, _ int) error {
	var last string
	err := until(ctx, "the commit of "+p.asked, swapLimit, func() bool {
		for _, e := range events(p.written(p.offset)) {
			if e.Release == p.asked && slices.Contains([]string{"committed", "failed", "rolled_back"}, e.State) {
				last = e.State
			}
		}
		return last != ""
	})
	if err == nil && last != "committed" {
		err = fmt.Errorf("%w: %s is %s; the log: %s", errNotCommitted, p.asked, last, p.written(p.offset))
	}
	return err
}

// startLone runs the minimal server on the package upgrade.
func (b *bench) startLone(ctx context.Context, args ...string) (*lone, error) {
	binary, err := b.build(ctx, "bench/upgradeonly", "")
	if err != nil {
		return nil, err
	}
	dir, err := b.path("upgradeonly")
	if err != nil {
		return nil, err
	}
	p := &lone{}
	if p.releases, err = newReleases("upgradeonly", binary, dir); err != nil {
		return nil, err
	}
	if err := p.prepare(ctx); err != nil { // a repository is not empty
		return nil, err
	}
	p.ready = nil
	spool := filepath.Join(dir, "spool")
	p.server, err = b.launch(ctx, "records on ", binary, append([]string{
		"--state-dir", filepath.Join(dir, "state"), "--spool", spool, "--repo", repoDir(dir), "--trust", publicKey(dir),
	}, args...)...)
	if err != nil {
		return nil, err
	}
	p.spool = spool
	return p, nil
}

// bare is tableflip alone.
type bare struct{ *server }

func (p *bare) base() *server                 { return p.server }
func (p *bare) prepare(context.Context) error { return nil }
func (p *bare) close() error                  { return p.stop() }

func (p *bare) settled(ctx context.Context, old int) error { return gone(ctx, p, old) }

func (p *bare) swap(_ context.Context, pid int) error { return askToUpgrade(pid) }

// heavy is the build tag that has bareflip link what agentd links.
const heavy = "bench_heavy"

func (b *bench) startBare(ctx context.Context, tags string) (*bare, error) {
	binary, err := b.build(ctx, "bench/bareflip", tags)
	if err != nil {
		return nil, err
	}
	dir, err := b.path("bareflip")
	if err != nil {
		return nil, err
	}
	spool := filepath.Join(dir, "spool")
	s, err := b.launch(ctx, "records on ", binary, "--spool", spool)
	if err != nil {
		return nil, err
	}
	s.spool = spool
	return &bare{s}, nil
}

// startPair runs agentd and what it is compared with.
func (b *bench) startPair(ctx context.Context) (ours *site, theirs *bare, err error) {
	if theirs, err = b.startBare(ctx, ""); err != nil {
		return nil, nil, err
	}
	ours, err = b.startSite(ctx, shortProbation)
	return ours, theirs, err
}

// replaced has s replace its process, whose pid is old, and returns once that
// one has drained and gone.
func replaced(ctx context.Context, s swapper, old int) error {
	if err := s.swap(ctx, old); err != nil {
		return err
	}
	return gone(ctx, s, old)
}

func gone(ctx context.Context, s swapper, old int) error {
	offset := len(s.base().written(0))
	err := until(ctx, "the end of the process that was replaced", swapLimit, func() bool { return !alive(old) })
	if err != nil {
		return fmt.Errorf("%w; the log: %s", err, s.base().written(int64(offset)))
	}
	return nil
}
