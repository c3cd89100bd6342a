package main

import (
	"context"
	"time"

	"github.com/perennial-go/perennial/upgrade"
)

// swapper is a server that can replace its process.
type swapper interface {
	// prepare does what a swap needs and what is no part of it.
	prepare(context.Context) error
	// swap asks the process pid for one, and returns when it has been accepted
	// or is over.
	swap(ctx context.Context, pid int) error
	base() *server
}

// swapLimit bounds the end of a replaced process after its drain.
const swapLimit = 60 * time.Second

// perennial is agentd that is upgraded through etcd, as an operator does it.
type perennial struct {
	*site
	next upgrade.Pin
}

func (p *perennial) base() *server { return p.server }

func (p *perennial) prepare(ctx context.Context) (err error) {
	p.next, err = p.release(ctx)
	return err
}

func (p *perennial) swap(ctx context.Context, _ int) error { return p.upgrade(ctx, p.next) }

// bare is tableflip alone.
type bare struct{ *server }

func (p *bare) base() *server { return p.server }

func (p *bare) prepare(context.Context) error { return nil }

func (p *bare) swap(_ context.Context, pid int) error { return askToUpgrade(pid) }

// heavy is the build tag that has bareflip link what agentd links.
const heavy = "bench_heavy"

func (b *bench) startBare(ctx context.Context, tags string) (*bare, error) {
	binary, err := b.build(ctx, "bench/bareflip", tags)
	if err != nil {
		return nil, err
	}
	s, err := b.launch(ctx, "records on ", binary)
	return &bare{s}, err
}

// startPair runs both servers that are compared.
func (b *bench) startPair(ctx context.Context) (ours *perennial, theirs *bare, err error) {
	if theirs, err = b.startBare(ctx, ""); err != nil {
		return nil, nil, err
	}
	s, err := b.startSite(ctx)
	return &perennial{site: s}, theirs, err
}

// replaced has s replace its process, whose pid is old, and returns once that
// one has drained and gone.
func replaced(ctx context.Context, s swapper, old int) error {
	if err := s.swap(ctx, old); err != nil {
		return err
	}
	return until(ctx, "the end of the process that was replaced", swapLimit, func() bool { return !alive(old) })
}
