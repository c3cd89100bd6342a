package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// DefaultMaxQueued is how many tasks may be unfinished at once.
const DefaultMaxQueued = 100_000

// QueueConfig says where tasks lie.
type QueueConfig struct {
	// Client is used, never closed. Required.
	Client *clientv3.Client
	// Root is the prefix of all keys; default /agents/. Tasks are below tasks/.
	Root string
	// MaxQueued is how many tasks may be unfinished, runs of tasks for all
	// agents included, before Submit refuses more; default 100,000. It is
	// looked at before the write, at most a second before: those who submit at
	// the same moment may exceed it a little.
	MaxQueued int
}

// Queue submits tasks and shows what became of them. Its methods may be called
// concurrently, and end with their context, or 5 s after the call where that
// has no deadline and etcd does not answer.
type Queue struct {
	client    *clientv3.Client
	keys      keys
	maxQueued int64

	mu      sync.Mutex
	counted time.Time // when open was
	open    int64     // tasks that are not finished
}

// NewQueue checks cfg and starts nothing.
func NewQueue(cfg QueueConfig) (*Queue, error) {
	if cfg.Client == nil {
		return nil, errors.New("task queue: QueueConfig.Client is nil")
	}
	if cfg.MaxQueued < 0 {
		return nil, fmt.Errorf("task queue: MaxQueued %d: want a positive number, or 0 for %d", cfg.MaxQueued, DefaultMaxQueued)
	}
	if cfg.MaxQueued == 0 {
		cfg.MaxQueued = DefaultMaxQueued
	}
	k, err := newKeys(cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("task queue: %w", err)
	}
	return &Queue{client: cfg.Client, keys: k, maxQueued: int64(cfg.MaxQueued)}, nil
}

// Submitted says which task a Submit led to.
type Submitted struct {
	ID string `json:"id"`
	// Existing: the same task was submitted before, with the same idempotency
	// key or id.
	Existing bool `json:"existing,omitempty"`
	// Runs is how many agents a task for all of them goes to; else 0.
	Runs int `json:"runs,omitempty"`
}

// Filter says which tasks List returns; its zero value is all of them.
type Filter struct {
	// States are those that are wanted; empty = all. Dead is the dead-letter
	// list. Assigned and Running tell apart what is claimed.
	States []State
	// Agent has the task, or had it last.
	Agent string
	// Plugin and Capability are as they were submitted.
	Plugin, Capability string
	// Parent wants the runs of a task for all agents.
	Parent string
	// SubmittedBy is as it was submitted.
	SubmittedBy string
	// After wants tasks whose id comes after it: the last of the page before.
	After string
	// Limit bounds how many are returned; default 1000, negative = all.
	Limit int
}

var errUnfinished = errors.New("not built yet")

// Submit puts a task into the queue. Once it returns nil the task is durable.
//
// Errors: ErrInvalid; ErrQueueFull; ErrNoAgent, of policy All; ErrConflict,
// where another task has its id or idempotency key; anything else is etcd's,
// and then the task may be in the queue all the same: with an ID or an
// IdempotencyKey it can be submitted again without harm.
func (q *Queue) Submit(ctx context.Context, t Task) (Submitted, error) {
	return Submitted{}, errUnfinished
}

// Get returns a task with its payload. Errors: ErrNotFound.
func (q *Queue) Get(ctx context.Context, id string) (Info, error) { return Info{}, errUnfinished }

// List returns tasks in the order of their ids, without payloads. It reads page
// by page, so that what changes meanwhile may show in one page and not in
// another.
func (q *Queue) List(ctx context.Context, f Filter) ([]Info, error) { return nil, errUnfinished }

// Cancel asks for the end of a task, on behalf of by: at once where it is
// queued, else as soon as its agent hears. The runs of a task for all agents are
// cancelled with it. Errors: ErrNotFound, ErrFinished.
func (q *Queue) Cancel(ctx context.Context, id, by string) error { return errUnfinished }

// Retry puts a dead or cancelled task back into the queue with all its tries. It
// goes on from its last cursor. Errors: ErrNotFound; ErrFinished where it has
// succeeded or its deadline has passed; ErrNotFinished; ErrInvalid of a task for
// all agents: retry its runs.
func (q *Queue) Retry(ctx context.Context, id string) error { return errUnfinished }

// Forget has a finished task and its results collected now instead of after
// their TTL. Errors: ErrNotFound, ErrNotFinished.
func (q *Queue) Forget(ctx context.Context, id string) error { return errUnfinished }

// Results returns up to limit (default 100, at most 1000) results of a task
// whose number is greater than after, in their order. Those of a run that is
// repeated may be deleted and come again with the same numbers. Errors:
// ErrNotFound.
func (q *Queue) Results(ctx context.Context, id string, after int64, limit int) ([]Result, error) {
	return nil, errUnfinished
}

// Follow hands the results of a task after the number to deliver, as they come,
// and returns the task once it is finished and all are delivered. Errors:
// ErrNotFound; deliver's, unchanged; ctx's.
func (q *Queue) Follow(ctx context.Context, id string, after int64, deliver func(Result) error) (Info, error) {
	return Info{}, errUnfinished
}

// Workers returns the agents that take tasks now, sorted.
func (q *Queue) Workers(ctx context.Context) ([]WorkerInfo, error) { return nil, errUnfinished }

// Leader returns the id of the dispatcher that assigns tasks; "" = none does.
func (q *Queue) Leader(ctx context.Context) (string, error) { return "", errUnfinished }
