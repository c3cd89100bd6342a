package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel/trace"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/tracing"
	"github.com/perennial-go/perennial/plugin"
)

// Defaults of a Worker.
const (
	DefaultConcurrency  = 4
	DefaultDrainTimeout = 10 * time.Second
	// DefaultResultBytes and DefaultResultsBytes bound one result of a task and
	// all of them.
	DefaultResultBytes  = 256 << 10
	DefaultResultsBytes = 8 << 20
	// MaxResults bounds how many results of a task are kept.
	MaxResults = 10_000
)

// Plugins are what runs tasks; *plugin.Manager is one.
type Plugins interface {
	// List returns the plugins; those that are running or degraded take tasks.
	List() []plugin.Status
	// Execute is as plugin.Manager's. It must return soon after ctx has ended:
	// a Worker does not return before it has.
	Execute(ctx context.Context, name string, task plugin.Task, deliver func(plugin.Result) error) error
}

// WorkerConfig says who works and how much.
type WorkerConfig struct {
	// Client is used, never closed. Required.
	Client *clientv3.Client
	// Root is the prefix of all keys; default /agents/.
	Root string
	// AgentID is the agent's; Instance is this process's, and no other's, ever:
	// 1 to 128 letters, digits, dots, underscores or hyphens each. Required.
	AgentID, Instance string
	// Lease returns the agent's lease; 0 = none now. The worker's key hangs on
	// it: without it nothing is assigned, and what is assigned goes to others.
	// Required.
	Lease func() clientv3.LeaseID
	// Labels, Groups, Host, Platform and Version (of the agent's program) are
	// what selectors go by.
	Labels                  map[string]string
	Groups                  []string
	Host, Platform, Version string
	// Plugins run the tasks. Required.
	Plugins Plugins
	// Concurrency is how many tasks run at once; default 4.
	Concurrency int
	// Backlog is how many more may be assigned, so that the next one is there
	// when one ends; default as many, negative = none.
	Backlog int
	// DrainTimeout is how long tasks may run on once Run is to end; default
	// 10 s, negative = not at all. What has not ended then goes back to the
	// queue; what is resumable goes back at once.
	DrainTimeout time.Duration
	// Predecessor is closed once every process of this agent that was before
	// this one has ended. Until then what they run is left to them and counts
	// as running. nil = they have ended. From the moment on when this worker
	// has told that it is there, those before it begin nothing any more: run it
	// once this process is the one in charge.
	Predecessor <-chan struct{}
	// ResultBytes bounds one result's payload, which is cut there, and
	// ResultsBytes all of a task's, after which more are left out; default
	// 256 KiB and 8 MiB. Both are told, and the task goes on.
	ResultBytes  int
	ResultsBytes int64
	// Metrics counts what runs here; nil counts nothing.
	Metrics *Metrics
	// TracerProvider receives a span for each run; nil begins none, and passes
	// the task's trace on to the plugin.
	TracerProvider trace.TracerProvider
	// Logger receives what runs and what goes wrong; nil discards it.
	Logger *slog.Logger
}

// WorkerInfo is what a worker says of its agent.
type WorkerInfo struct {
	Agent    string            `json:"agent"`
	Instance string            `json:"instance"`
	Labels   map[string]string `json:"labels,omitempty"`
	Groups   []string          `json:"groups,omitempty"`
	Host     string            `json:"host,omitempty"`
	Platform string            `json:"platform,omitempty"`
	Version  string            `json:"version,omitempty"`
	// Plugins are those that take tasks.
	Plugins     []WorkerPlugin `json:"plugins,omitempty"`
	Concurrency int            `json:"concurrency"`
	// Room is how many unfinished tasks may be assigned.
	Room int `json:"room"`
}

// WorkerPlugin is a plugin that takes tasks.
type WorkerPlugin struct {
	Name         string   `json:"name"`
	Version      string   `json:"version"`
	Capabilities []string `json:"capabilities"`
}

// Worker runs what is assigned to one agent. Its methods may be called
// concurrently.
type Worker struct {
	cfg     WorkerConfig
	keys    keys
	pool    *pool
	tracer  tracing.Tracer
	started atomic.Bool
	bell    chan struct{} // something is to be begun
	changed chan struct{} // the worker's key may be out of date

	mu      sync.Mutex
	entries map[string]*entry // by task
	runs    map[string]*run
	dead    map[string]bool // instances that do not live any more
	key     int64           // revision of the worker's key as this process wrote it; 0 = it has not
	theirs  bool            // the key is another process's
	missing bool            // it is not there
}

// NewWorker checks cfg and starts nothing.
func NewWorker(cfg WorkerConfig) (*Worker, error) {
	k, err := newKeys(cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	cfg.setDefaults()
	return &Worker{
		cfg: cfg, keys: k, pool: newPool(cfg.Client), tracer: tracing.New(cfg.TracerProvider, scope),
		bell: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		entries: map[string]*entry{}, runs: map[string]*run{}, dead: map[string]bool{},
	}, nil
}

func (cfg *WorkerConfig) check() error {
	switch {
	case cfg.Client == nil:
		return errors.New("WorkerConfig.Client is nil")
	case cfg.Lease == nil:
		return errors.New("WorkerConfig.Lease is nil")
	case cfg.Plugins == nil:
		return errors.New("WorkerConfig.Plugins is nil")
	case etcdkv.ValidID(cfg.AgentID) != nil:
		return fmt.Errorf("AgentID: %w", etcdkv.ValidID(cfg.AgentID))
	case etcdkv.ValidID(cfg.Instance) != nil:
		return fmt.Errorf("Instance: %w", etcdkv.ValidID(cfg.Instance))
	case cfg.Concurrency < 0 || cfg.Concurrency > maxConcurrency || cfg.Backlog > maxConcurrency:
		return fmt.Errorf("concurrency %d with a backlog of %d: want at most %d each, or 0 for the default", cfg.Concurrency, cfg.Backlog, maxConcurrency)
	case cfg.ResultBytes < 0 || cfg.ResultBytes > maxResult || cfg.ResultsBytes < 0:
		return fmt.Errorf("results of %d bytes, %d in all: want at most %d each, or 0 for the defaults", cfg.ResultBytes, cfg.ResultsBytes, maxResult)
	}
	return nil
}

// Bounds of a WorkerConfig.
const (
	maxConcurrency = 10_000
	maxResult      = 512 << 10
)

func (cfg *WorkerConfig) setDefaults() {
	if cfg.Concurrency == 0 {
		cfg.Concurrency = DefaultConcurrency
	}
	switch {
	case cfg.Backlog == 0:
		cfg.Backlog = cfg.Concurrency
	case cfg.Backlog < 0:
		cfg.Backlog = 0
	}
	switch {
	case cfg.DrainTimeout == 0:
		cfg.DrainTimeout = DefaultDrainTimeout
	case cfg.DrainTimeout < 0:
		cfg.DrainTimeout = 0
	}
	if cfg.ResultBytes == 0 {
		cfg.ResultBytes = DefaultResultBytes
	}
	if cfg.ResultsBytes == 0 {
		cfg.ResultsBytes = DefaultResultsBytes
	}
	if cfg.Predecessor == nil {
		ended := make(chan struct{})
		close(ended)
		cfg.Predecessor = ended
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Labels, cfg.Groups = maps.Clone(cfg.Labels), slices.Clone(cfg.Groups)
}
