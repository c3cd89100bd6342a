package config

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of a Config.
const (
	// DefaultLoadTimeout is how long Run waits for etcd.
	DefaultLoadTimeout = 5 * time.Second
	// DefaultApplyTimeout is how long a subscriber may take.
	DefaultApplyTimeout = 10 * time.Second
	// DefaultFilesEvery is the distance of two looks at Config.Files.
	DefaultFilesEvery = 2 * time.Second
)

// Config says what a configuration of type T is. T is a struct (or a map with
// string keys); pointers, maps, slices and structs within it form a tree.
//
// The layers, the weakest first: the default tags of T's fields, Default,
// Files, the environment, and in etcd the global document, those of the
// groups, and the agent's own.
type Config[T any] struct {
	// Default is what applies where no document says anything. Where it is
	// zero, a field's default tag applies instead, such as `default:"30s"`: text
	// for a string, and for anything else what a document would say, in YAML.
	// It is copied.
	Default T
	// Files are paths of documents on this host, the later over the earlier.
	// One that does not exist says nothing. They are read when Run starts, and
	// again once they have changed and rested.
	Files []string
	// FilesEvery is the distance of two looks at Files; default 2 s.
	FilesEvery time.Duration
	// EnvPrefix, such as "AGENTD_CONFIG_", lets environment variables set
	// fields: the prefix and the field's path in capitals, joined by
	// underscores (http.read_timeout: AGENTD_CONFIG_HTTP_READ_TIMEOUT), or the
	// name in an env tag ("-": none). The text is read as default tags are; an
	// empty variable sets nothing. Variables with the prefix that set no field
	// are noted in the status. Empty = no variables are read.
	EnvPrefix string
	// Validate refuses a configuration that fits the type but makes no sense.
	// It may complete what it is given. It gets the whole, merged
	// configuration, and must neither keep nor share it. nil accepts all. The
	// Validate methods of T and of the types in it are called after it; see
	// Validator. An error that begins with a path and a colon is reported with
	// the place where the documents set it.
	Validate func(*T) error
	// ApplyTimeout is how long each call of a subscriber may take; default
	// 10 s.
	ApplyTimeout time.Duration
	// Logger receives configurations accepted and refused; nil discards them.
	Logger *slog.Logger
	// MaxBytes bounds each document; default
	// DefaultMaxBytes.
	MaxBytes int
	// LoadTimeout is how long Run waits for etcd before it falls back on
	// Source.File; default 5 s.
	LoadTimeout time.Duration
}

// Store holds the configuration in force. All methods may be called
// concurrently.
type Store[T any] struct {
	cfg       Config[T]
	variables []variable
	sections  sections
	subs      subscribers
	snapshot  atomic.Pointer[Snapshot[T]]
	ready     chan struct{}
	started   atomic.Bool
	report    reporter
}

// New checks cfg and the tags of T, and starts nothing. Until Run has loaded a
// configuration, Snapshot returns the default, not validated.
func New[T any](cfg Config[T]) (*Store[T], error) {
	t := reflect.TypeFor[T]()
	if t.Kind() != reflect.Struct && (t.Kind() != reflect.Map || t.Key().Kind() != reflect.String) {
		return nil, fmt.Errorf("config of type %s: want a struct or a map with string keys", t)
	}
	if cfg.MaxBytes < 0 || min(cfg.LoadTimeout, cfg.ApplyTimeout, cfg.FilesEvery) < 0 {
		return nil, fmt.Errorf("config: MaxBytes %d, LoadTimeout %s, ApplyTimeout %s, FilesEvery %s: want no negative limits",
			cfg.MaxBytes, cfg.LoadTimeout, cfg.ApplyTimeout, cfg.FilesEvery)
	}
	s := &Store[T]{cfg: cfg, ready: make(chan struct{}), subs: subscribers{freed: make(chan struct{}, 1)}}
	s.cfg.setDefaults()
	s.cfg.Default = clone(cfg.Default)
	err := checkDefaults(t, map[reflect.Type]bool{})
	if err == nil {
		err = fillDefaults(&s.cfg.Default)
	}
	if err == nil {
		s.variables, err = variables(cfg.EnvPrefix, t, nil)
	}
	if err == nil {
		s.cfg.Files, err = absolute(cfg.Files)
	}
	if err != nil {
		return nil, err
	}
	value := clone(s.cfg.Default)
	s.subs.now = content{value: &value}
	s.snapshot.Store(&Snapshot[T]{Value: value, Origin: OriginDefault, At: time.Now()})
	s.report.state.Origin = OriginDefault
	return s, nil
}

func (cfg *Config[T]) setDefaults() {
	if cfg.Validate == nil {
		cfg.Validate = func(*T) error { return nil }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	if cfg.LoadTimeout == 0 {
		cfg.LoadTimeout = DefaultLoadTimeout
	}
	if cfg.ApplyTimeout == 0 {
		cfg.ApplyTimeout = DefaultApplyTimeout
	}
	if cfg.FilesEvery == 0 {
		cfg.FilesEvery = DefaultFilesEvery
	}
}

// Ready is closed once the first configuration that Run loaded is in force.
func (s *Store[T]) Ready() <-chan struct{} { return s.ready }

// Snapshot returns the configuration in force. It never blocks, copies nothing
// and allocates nothing: call it wherever a setting is needed.
func (s *Store[T]) Snapshot() *Snapshot[T] { return s.snapshot.Load() }

// Status tells what runs, what is wanted and what failed.
func (s *Store[T]) Status() Status { return s.report.status() }

// put brings next into force, made of docs, if all subscribers agree. latest:
// it is what was seen last. before is called if one is to be asked.
func (s *Store[T]) put(ctx context.Context, next content, docs []document, origin string, latest bool, before func()) *Failure {
	snapshot := &Snapshot[T]{
		Value: *valueOf[T](next), Revision: revisionOf(docs), Digest: digestOf(docs), Origin: origin, At: time.Now(),
	}
	old := s.Snapshot()
	first := old.Origin == OriginDefault
	unchanged := !first && old.Revision == snapshot.Revision && old.Digest == snapshot.Digest
	if unchanged {
		snapshot.At = old.At
	}
	step := change{
		subscribers: &s.subs, from: s.subs.current(), to: next, timeout: s.cfg.ApplyTimeout, before: sync.OnceFunc(before),
		log: s.cfg.Logger,
	}
	err := step.run(ctx, func() { s.snapshot.Store(snapshot) })
	if err != nil {
		return failure(docs, newest(docs), veil(err.Error(), append(step.from.secrets(), next.secrets()...))).by(err)
	}
	s.report.running(docs, origin, snapshot.At, !unchanged, latest)
	if first {
		close(s.ready)
	}
	if !unchanged {
		s.cfg.Logger.Info("configuration in force", "revision", snapshot.Revision, "origin", origin)
	}
	return nil
}
