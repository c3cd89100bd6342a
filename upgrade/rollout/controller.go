package rollout

import (
	"context"
	"errors"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// DefaultLeaderTTL is that of ControllerConfig.TTL.
const DefaultLeaderTTL = 10 * time.Second

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
	// nil = none: such a plan is paused in place of being completed.
	Publisher Publisher
	// Notify is called with each record of the history, in order and never
	// concurrently, by the controller that is elected: at least once, and again
	// where the one before did not get to say that it was. It holds up nothing but
	// later records. May be nil.
	Notify func(context.Context, Record)
	// Webhooks are told of records like Notify.
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
	Elected  bool
	Plan     *Plan // nil = there is none
	Books    Books
	Freeze   *Freeze
	Snapshot Snapshot
	// Err is what keeps it from moving the rollout on; nil = nothing.
	Err error
}

// Checker answers checks of one kind.
type Checker interface {
	// Check asks once, until ctx ends. An error is no answer: it is asked again,
	// Check.Attempts times in all, and at last inconclusive.
	Check(ctx context.Context, c Check, p *Plan) (Verdict, string, error)
}

// Publisher makes the document of a rollout that has completed that of its
// scope.
type Publisher interface {
	// Prepare returns what is to hold and what is to be done in a transaction that
	// makes document that of scope. What is done already takes nothing.
	Prepare(ctx context.Context, d Publication) ([]clientv3.Cmp, []clientv3.Op, error)
}

// Publication is a document that is to become that of its scope.
type Publication struct {
	// Scope is "global" or "group/<group>".
	Scope    string
	Document []byte
	// By and Message say who published it and why.
	By, Message string
}

// Webhook is told of records by HTTP.
type Webhook struct {
	// URL is posted to, with the Record as JSON.
	URL string
	// Events are those that it is told of; nil = all but EventAdmitted.
	Events []Event
	// Header is sent with it, as for authentication.
	Header map[string]string
	// Timeout bounds one attempt; default 10 s. There are five, over a minute or
	// two.
	Timeout time.Duration
}

// Controller moves the rollouts of one fleet on while it is elected.
type Controller struct {
	cfg  ControllerConfig
	keys keys
}

// NewController checks cfg and starts nothing.
func NewController(cfg ControllerConfig) (*Controller, error) { return nil, errors.New("not yet") }

// Run stands for election, and moves rollouts on while elected, until ctx ends,
// whose error it returns. It resigns when it ends. Who may not write what a
// controller writes is told so in the log, once, and only waits. It can be called
// once.
func (c *Controller) Run(ctx context.Context) error { return errors.New("not yet") }
