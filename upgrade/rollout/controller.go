package rollout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/election"
	"github.com/perennial-go/perennial/internal/etcdkv"
)

// DefaultLeaderTTL is that of ControllerConfig.TTL.
const DefaultLeaderTTL = election.DefaultTTL

// ControllerConfig says which fleet's rollouts are controlled.
type ControllerConfig struct {
	// Client is used, never closed. Required.
	Client *clientv3.Client
	// Root is the prefix of all keys; default /agents/.
	Root string
	// Fleet is the fleet's name; default DefaultFleet.
	Fleet string
	// ID names the candidate, for people: an agent's id. Required.
	ID string
	// TTL is how long the election outlives a controller that died; default
	// 10 s, at least 1 s. The one that is elected has a lease of its own.
	TTL time.Duration
	// Agents shows the agents of the fleet. It is watched while elected. Required.
	Agents Fleet
	// Checkers answer the checks of plans, by Check.Kind, beside "prometheus" and
	// "http", which are there unless they are replaced.
	Checkers map[string]Checker
	// Publisher publishes configuration documents whose rollout has completed;
	// nil = none: then such a rollout does not complete.
	Publisher Publisher
	// Notify is called with each record of a rollout, in order and never
	// concurrently, by the controller that is elected: at least once, and again
	// where the one before did not get to say that it was. It holds up nothing but
	// later records. May be nil.
	Notify func(context.Context, Record)
	// Webhooks are told of records like Notify; at most 16. Where some candidates
	// have neither, what such a one writes nobody is told of.
	Webhooks []Webhook
	// Observe is called with what the controller that is elected sees, after each
	// look, and with the zero value once it is not elected any more; it must not
	// block. May be nil.
	Observe func(Observation)
	// Logger receives elections, decisions and what goes wrong; nil discards it.
	Logger *slog.Logger
}

// Observation is what a controller sees.
type Observation struct {
	// Elected is false in the last one.
	Elected bool
	// Plan is nil while there is none.
	Plan   *Plan
	Books  Books
	Freeze *Freeze
	// Snapshot has the revision 0 while the agents have not been seen.
	Snapshot Snapshot
	// Blind: the agents are not seen as they are; Snapshot is how they were.
	Blind bool
	// Err is what keeps it from moving the rollout on; nil = nothing.
	Err error
}

// Publisher makes a document that of its scope.
type Publisher interface {
	// Prepare returns what is to hold and what is to be done in a transaction that
	// does so. What is done already takes nothing.
	Prepare(ctx context.Context, d Publication) ([]clientv3.Cmp, []clientv3.Op, error)
}

// Publication is a document that is to become that of its scope.
type Publication struct {
	// Scope is "global" or "group/<group>".
	Scope string
	// Document is what the scope is to have; nil = none.
	Document []byte
	// Replaces is the only document that it is to take the place of: where another
	// one is there, or none, that stays. nil = whatever there is.
	Replaces []byte
	// By and Message say who published it and why.
	By, Message string

	over string // see Plan.Over
}

// MayReplace reports whether Document may take the place of there, which its
// scope has now; nil = none. It may not where others have published that since the
// rollout began: then Prepare returns an error that wraps ErrPublished.
func (p *Publication) MayReplace(there []byte) bool {
	if len(there) == 0 {
		there = []byte(nothing)
	}
	digest := digestOf(there)
	return p.over == "" || digest == p.over || digest == digestOf(p.Document)
}

// ErrPublished is told where others have published a document since a rollout of another one
// began, which does not take its place then. The rollout pauses.
var ErrPublished = errors.New("it is there since the rollout began, and is not replaced")

// Controller moves the rollouts of one fleet on while it is elected. Any number
// may stand for election.
//
// All that it goes by is in etcd: one that takes over decides as the one before
// would have. Each of its writes compares that it is still elected, and that the
// plan is the one that it read, and moves the mark with one transaction, which
// holds the record of the history as well.
type Controller struct {
	store
	cfg      ControllerConfig
	checkers map[string]Checker
	hooks    []Webhook
	web      *http.Client
	election *election.Election
}

// NewController checks cfg and starts nothing.
func NewController(cfg ControllerConfig) (*Controller, error) {
	k, err := newKeys(cfg.Root, cfg.Fleet)
	if err != nil {
		return nil, fmt.Errorf("controller of rollouts: %w", err)
	}
	switch {
	case cfg.Client == nil:
		return nil, errors.New("controller of rollouts: ControllerConfig.Client is nil")
	case cfg.Agents == nil:
		return nil, errors.New("controller of rollouts: ControllerConfig.Agents is nil")
	case etcdkv.ValidID(cfg.ID) != nil:
		return nil, fmt.Errorf("controller of rollouts: ID: %w", etcdkv.ValidID(cfg.ID))
	case election.CheckTTL(cfg.TTL) != nil:
		return nil, fmt.Errorf("controller of rollouts: %w", election.CheckTTL(cfg.TTL))
	}
	if cfg.TTL == 0 {
		cfg.TTL = DefaultLeaderTTL
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Observation) {}
	}
	c := &Controller{store: store{cfg.Client, k}, cfg: cfg, checkers: checkers(maps.Clone(cfg.Checkers)), web: newClient()}
	if c.hooks, err = checkWebhooks(cfg.Webhooks); err != nil {
		return nil, fmt.Errorf("controller of rollouts: %w", err)
	}
	c.election, err = election.New(election.Config{
		Client: cfg.Client, Key: k.leader(), TTL: cfg.TTL, Office: "controller of rollouts", Logger: cfg.Logger,
		Value: func() (string, error) { return encode(Leader{Schema: Schema, ID: cfg.ID, Since: time.Now().UTC()}) },
		Must: []clientv3.Op{
			clientv3.OpPut(k.plan(), ""), clientv3.OpPut(k.books(), ""), clientv3.OpPut(k.history(), ""), clientv3.OpGet(k.freeze()),
		},
		Term: c.term,
	})
	return c, err
}

// Run stands for election, and moves rollouts on while elected, until ctx ends,
// whose error it returns. It resigns when it ends. Who may not write what a
// controller writes is told so in the log, once, and only waits. One that finds out
// while elected resigns, and stands back for those who may. It can be called once.
func (c *Controller) Run(ctx context.Context) error { return c.election.Run(ctx) }

// term moves rollouts on while the election's key has this create revision.
func (c *Controller) term(ctx context.Context, revision int64) error {
	c.cfg.Logger.Info("this controller moves rollouts on now", "name", c.keys.fleet)
	defer c.cfg.Observe(Observation{})
	return newTerm(c, revision).run(ctx)
}
