package rollout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// FollowerConfig describes an agent that follows its fleet's plan. Client, Self,
// Host and Fresh are required.
type FollowerConfig struct {
	// Client is used, never closed.
	Client *clientv3.Client
	// Root is the prefix of all keys; default "/agents/".
	Root string
	// Fleet is whose plan is followed; default DefaultFleet.
	Fleet string
	// Self is the agent as it stands in the registry. ID, Labels, Groups, Host
	// and Platform do not change; Joined is 0 while it is not registered. It is
	// called often and must not block.
	Self func() Member
	// Host does what the plan asks for.
	Host Host
	// Fresh reports whether the registration stands for certain: whether less
	// time than its lease lasts has passed since the last renewal was sent that
	// was answered. Nothing is started while it does not: whoever moves the
	// marks may think that the agent is gone. It must not block.
	Fresh func() bool
	// State is the path of the file that keeps the report through swaps and
	// restarts, in a directory that exists; "" keeps nothing.
	State string
	// OnReport is called after Report has changed; it must not block. May be nil.
	OnReport func()
	// Logger receives what the agent follows; nil discards it.
	Logger *slog.Logger
}

// Host is the agent's own side of a rollout. Its methods are called from one
// goroutine, and must not block. Whenever an answer of Standing may have changed
// it calls Follower.Touch.
type Host interface {
	// Begin has the host do what o asks for; Standing tells what becomes of it.
	// An order that was begun before and has not ended is replaced. It is called
	// again with the same order if the host turns out not to know it, as after a
	// crash.
	Begin(o Order)
	// Standing tells how the host stands to o.
	Standing(o Order) Standing
	// Settle is told that a rollout is over, or that another has taken its place:
	// what was laid over until then may give way. It may be called again.
	Settle(rollout string)
}

// Order is an instruction as it is given to one host.
type Order struct {
	// Rollout is Plan.ID, Request what names the order in the host's journal.
	Rollout, Request string
	// By is who asked for the rollout.
	By     string
	Action Action
	// Target is what is to be there or to run. Of a revert it is zero where each
	// agent goes back to what it ran before.
	Target Target
	// From is what a revert leaves; else zero.
	From Target
	// Document is the key of Target's configuration document; "" = none.
	Document string
	// Probation is for how long at least the successor is on probation; 0 = as
	// the host is set.
	Probation time.Duration
	// GiveUp is how long the whole may take from Begin on: it must have ended by
	// itself before.
	GiveUp time.Duration
	// Retain is for how long what ran before is to be kept; 0 = as the host is
	// set.
	Retain time.Duration
}

// Standing is how a host stands to an Order.
type Standing struct {
	// State is how far it has got with the order: "" if it does not know it,
	// ReportWaiting if it has it and may not start now, ReportStarted, or how it
	// ended; then Reason and Class are as in Report.
	State         ReportState
	Reason, Class string
	// Runs: what the order asks for is so already, whoever did it. For a revert
	// without a target it is that what it leaves does not run.
	Runs bool
	// There: all that the order needs is on the host.
	There bool
	// Held says who keeps the host out and why; "" = nobody.
	Held string
}

// Follower is the agent's side of rollouts: it follows the plan of its fleet and
// has its Host start what the plan asks for, once the plan admits the agent.
//
// It starts on the plan's change alone, without a read or a write of etcd, and
// starts nothing while the agent's registration may have ended, so that it is
// never down without being counted.
type Follower struct {
	cfg     FollowerConfig
	keys    keys
	started atomic.Bool
	touched chan struct{}
	heard   chan heard

	mu     sync.Mutex
	report *Report
	trouble error
}

// NewFollower checks cfg and reads the report that was kept; it starts nothing.
func NewFollower(cfg FollowerConfig) (*Follower, error) {
	switch {
	case cfg.Client == nil:
		return nil, errors.New("rollout: FollowerConfig.Client is nil")
	case cfg.Self == nil || cfg.Host == nil || cfg.Fresh == nil:
		return nil, errors.New("rollout: FollowerConfig.Self, Host and Fresh are required")
	}
	k, err := newKeys(cfg.Root, cfg.Fleet)
	if err != nil {
		return nil, fmt.Errorf("rollout: %w", err)
	}
	if cfg.OnReport == nil {
		cfg.OnReport = func() {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Follower{cfg: cfg, keys: k, touched: make(chan struct{}, 1), heard: make(chan heard)}, nil
}

// Run follows the plan until ctx ends, whose error it then returns. It goes on
// through outages, can be called once, and joins what it starts.
func (f *Follower) Run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// Touch has the Follower look at its Host, Self and Fresh again. It does not
// block and may be called concurrently, also before Run.
func (f *Follower) Touch() {
	select {
	case f.touched <- struct{}{}:
	default:
	}
}

// Report is what the agent says about the instruction that it follows, or was
// the last to follow; nil = about none. It may be called concurrently; the
// report does not change.
func (f *Follower) Report() *Report {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.report
}

// Trouble is why the plan in etcd, or the brake, cannot be followed; nil if it
// can. It may be called concurrently.
func (f *Follower) Trouble() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.trouble
}

// heard is a view of the plan and the brake.
type heard struct{ view etcdkv.View }
