package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel/trace"

	"github.com/perennial-go/perennial/internal/election"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/tracing"
)

// Defaults of a Dispatcher.
const (
	DefaultLeaderTTL    = election.DefaultTTL
	DefaultGrace        = 3 * time.Second
	DefaultCollectEvery = time.Minute
)

// DispatcherConfig says where tasks are assigned.
type DispatcherConfig struct {
	// Client is used, never closed. Required.
	Client *clientv3.Client
	// Root is the prefix of all keys; default /agents/.
	Root string
	// ID names the candidate, for people: an agent's id. Required.
	ID string
	// TTL is how long the election outlives a dispatcher that died; default
	// 10 s, at least 1 s. The one that is elected has a lease of its own: that
	// of its agent outlives the process in a hot swap.
	TTL time.Duration
	// Grace is how long an agent's worker may be away from etcd before its
	// tasks are given to others; default 3 s, negative = not at all. It covers
	// an agent that exchanges its lease.
	Grace time.Duration
	// CollectEvery is the pause between two looks for finished tasks whose TTL
	// has ended; default 1 min.
	CollectEvery time.Duration
	// Metrics tells whether this one is elected; nil tells nobody.
	Metrics *Metrics
	// TracerProvider receives a span for each assignment; nil begins none, and
	// passes the task's trace on.
	TracerProvider trace.TracerProvider
	// Logger receives elections and what goes wrong; nil discards it.
	Logger *slog.Logger
}

// Dispatcher assigns tasks while it is elected.
type Dispatcher struct {
	cfg      DispatcherConfig
	keys     keys
	tracer   tracing.Tracer
	election *election.Election
}

// NewDispatcher checks cfg and starts nothing.
func NewDispatcher(cfg DispatcherConfig) (*Dispatcher, error) {
	k, err := newKeys(cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("dispatcher: %w", err)
	}
	switch {
	case cfg.Client == nil:
		return nil, errors.New("dispatcher: DispatcherConfig.Client is nil")
	case etcdkv.ValidID(cfg.ID) != nil:
		return nil, fmt.Errorf("dispatcher: ID: %w", etcdkv.ValidID(cfg.ID))
	case election.CheckTTL(cfg.TTL) != nil:
		return nil, fmt.Errorf("dispatcher: %w", election.CheckTTL(cfg.TTL))
	case cfg.CollectEvery < 0:
		return nil, fmt.Errorf("dispatcher: CollectEvery %s: want a positive time, or 0 for %s", cfg.CollectEvery, DefaultCollectEvery)
	}
	if cfg.TTL == 0 {
		cfg.TTL = DefaultLeaderTTL
	}
	switch {
	case cfg.Grace == 0:
		cfg.Grace = DefaultGrace
	case cfg.Grace < 0:
		cfg.Grace = 0
	}
	if cfg.CollectEvery == 0 {
		cfg.CollectEvery = DefaultCollectEvery
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Dispatcher{cfg: cfg, keys: k, tracer: tracing.New(cfg.TracerProvider, scope)}
	d.election, err = election.New(election.Config{
		Client: cfg.Client, Key: k.leader(), TTL: cfg.TTL, Office: "dispatcher of tasks", Logger: cfg.Logger,
		Value: func() (string, error) { return encode(leaderValue{schema, cfg.ID, now()}) },
		Must:  []clientv3.Op{clientv3.OpDelete(k.states(), clientv3.WithPrefix())},
		Term:  d.term,
	})
	return d, err
}

// Run stands for election, and assigns tasks while elected, until ctx ends,
// whose error it returns. It resigns when it ends. Who may not write the
// election's key is told so in the log, once, and only waits. It can be called
// once.
func (d *Dispatcher) Run(ctx context.Context) error { return d.election.Run(ctx) }

// term assigns tasks while the election's key has this create revision.
func (d *Dispatcher) term(ctx context.Context, revision int64) error {
	d.cfg.Logger.Info("this dispatcher assigns tasks now", "name", d.cfg.ID)
	d.cfg.Metrics.dispatcher.Set(1)
	defer d.cfg.Metrics.dispatcher.Set(0)
	return newTerm(d, revision).run(ctx)
}
