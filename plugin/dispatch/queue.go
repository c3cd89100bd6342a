package dispatch

import (
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel/trace"

	"github.com/perennial-go/perennial/internal/tracing"
)

// Bounds of a queue.
const (
	// DefaultMaxQueued is how many tasks may be unfinished at once.
	DefaultMaxQueued = 100_000
	// maxQueued is the most that a dispatcher can keep in view.
	maxQueued = 200_000
)

// QueueConfig says where tasks lie.
type QueueConfig struct {
	// Client is used, never closed. Required.
	Client *clientv3.Client
	// Root is the prefix of all keys; default /agents/. Tasks are below tasks/.
	Root string
	// MaxQueued is how many tasks may be unfinished, runs of tasks for all
	// agents included, before Submit refuses more; default 100,000. It is
	// looked at before the write, at most a second before: those who submit at
	// the same moment may exceed it a little, and the last task for all agents
	// by its runs. At most 200,000.
	MaxQueued int
	// TracerProvider receives a span for each Submit; nil begins none, and has
	// the task be part of its ctx's trace.
	TracerProvider trace.TracerProvider
}

// Queue submits tasks and shows what became of them. Its methods may be called
// concurrently, and end with their context, or 5 s after the call where that
// has no deadline and etcd does not answer.
type Queue struct {
	client    *clientv3.Client
	keys      keys
	maxQueued int64
	tracer    tracing.Tracer

	mu      sync.Mutex
	counted time.Time // when open was
	open    int64     // tasks that are not finished
}

// NewQueue checks cfg and starts nothing.
func NewQueue(cfg QueueConfig) (*Queue, error) {
	if cfg.Client == nil {
		return nil, errors.New("task queue: QueueConfig.Client is nil")
	}
	if cfg.MaxQueued < 0 || cfg.MaxQueued > maxQueued {
		return nil, fmt.Errorf("task queue: MaxQueued %d: want 1 to %d, or 0 for %d", cfg.MaxQueued, maxQueued, DefaultMaxQueued)
	}
	if cfg.MaxQueued == 0 {
		cfg.MaxQueued = DefaultMaxQueued
	}
	k, err := newKeys(cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("task queue: %w", err)
	}
	return &Queue{client: cfg.Client, keys: k, maxQueued: int64(cfg.MaxQueued), tracer: tracing.New(cfg.TracerProvider, scope)}, nil
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
