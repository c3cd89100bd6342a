package config

import (
	"fmt"
	"log/slog"
	"reflect"
	"sync/atomic"
	"time"
)

// DefaultLoadTimeout is how long Run waits for etcd unless Config says
// otherwise.
const DefaultLoadTimeout = 5 * time.Second

// Config says what a configuration of type T is. T is a struct (or a map with
// string keys); pointers, maps, slices and structs within it form a tree.
type Config[T any] struct {
	// Default is what applies where no document says anything. It is copied.
	Default T
	// Validate refuses a configuration that fits the type but makes no sense.
	// It may complete what it is given. It gets the whole, merged
	// configuration, and must neither keep nor share it. nil accepts all.
	Validate func(*T) error
	// OnChange is called, from Run's goroutine, after a configuration came
	// into force that differs from the one before in value or revision. For
	// the first one old is Default's snapshot. Snapshot returns new already;
	// while OnChange runs no newer one comes into force. May be nil.
	OnChange func(old, new Snapshot[T])
	// Logger receives configurations accepted and refused; nil discards them.
	Logger *slog.Logger
	// MaxBytes bounds each document; default 1 MiB.
	MaxBytes int
	// LoadTimeout is how long Run waits for etcd before it falls back on
	// Source.File; default 5 s.
	LoadTimeout time.Duration
}

// Store holds the configuration in force. All methods may be called
// concurrently.
type Store[T any] struct {
	cfg      Config[T]
	snapshot atomic.Pointer[Snapshot[T]]
	ready    chan struct{}
	started  atomic.Bool
	report   reporter
}

// Snapshot is a configuration and where it is from. It is shared: nothing
// that Value points to may be modified.
type Snapshot[T any] struct {
	Value T
	// Revision is the highest modification revision, in etcd, of the
	// documents it is made of; 0 = of none.
	Revision int64
	// Origin is "etcd", "file" (the last-known-good file, etcd unheard yet)
	// or "default" (before Run has loaded anything).
	Origin string
	// At is when it came into force here.
	At time.Time
}

// The values of Snapshot.Origin and Status.Origin.
const (
	OriginDefault = "default"
	OriginFile    = "file"
	OriginEtcd    = "etcd"
)

// New checks cfg and starts nothing. Until Run has loaded a configuration,
// Snapshot returns Default, not validated.
func New[T any](cfg Config[T]) (*Store[T], error) {
	t := reflect.TypeFor[T]()
	if t.Kind() != reflect.Struct && (t.Kind() != reflect.Map || t.Key().Kind() != reflect.String) {
		return nil, fmt.Errorf("config of type %s: want a struct or a map with string keys", t)
	}
	if cfg.MaxBytes < 0 || cfg.LoadTimeout < 0 {
		return nil, fmt.Errorf("config: MaxBytes %d, LoadTimeout %s: want no negative limits", cfg.MaxBytes, cfg.LoadTimeout)
	}
	cfg.Default = clone(cfg.Default)
	if cfg.Validate == nil {
		cfg.Validate = func(*T) error { return nil }
	}
	if cfg.OnChange == nil {
		cfg.OnChange = func(_, _ Snapshot[T]) {}
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
	s := &Store[T]{cfg: cfg, ready: make(chan struct{})}
	s.snapshot.Store(&Snapshot[T]{Value: clone(cfg.Default), Origin: OriginDefault, At: time.Now()})
	s.report.origin = OriginDefault
	return s, nil
}

// Ready is closed once the first configuration that Run loaded is in force.
func (s *Store[T]) Ready() <-chan struct{} { return s.ready }

// Snapshot returns the configuration in force. It never blocks.
func (s *Store[T]) Snapshot() Snapshot[T] { return *s.snapshot.Load() }

// Status tells what runs, what is wanted and what failed.
func (s *Store[T]) Status() Status { return s.report.status() }

// build makes a configuration of docs, in their order. A failure names the
// document at fault, so far as that can be told.
func (s *Store[T]) build(docs []document) (T, *Failure) {
	var merged map[string]any
	for _, d := range docs {
		t, err := parse(d.Data, s.cfg.MaxBytes)
		if err != nil {
			return *new(T), failure(docs, d.Key, err)
		}
		// Each alone first: what is wrong in one is wrong even where a later
		// one covers it, and only so is it known whose fault it is.
		if err := t.decode(new(T)); err != nil {
			return *new(T), failure(docs, d.Key, err)
		}
		merged = merge(merged, t.values)
	}
	value := clone(s.cfg.Default)
	if err := decode(merged, &value); err != nil {
		return value, failure(docs, newest(docs), err)
	}
	if err := s.cfg.Validate(&value); err != nil {
		return value, failure(docs, newest(docs), err)
	}
	return value, nil
}

// put brings a configuration into force.
func (s *Store[T]) put(value T, revision int64, origin string) {
	old := s.Snapshot()
	next := Snapshot[T]{Value: value, Revision: revision, Origin: origin, At: time.Now()}
	first := old.Origin == OriginDefault
	same := !first && old.Revision == revision && reflect.DeepEqual(old.Value, value)
	if same {
		next.Value, next.At = old.Value, old.At
	}
	s.snapshot.Store(&next)
	s.report.running(revision, origin)
	if first {
		close(s.ready)
	}
	if !same {
		s.cfg.Logger.Info("configuration in force", "revision", revision, "origin", origin)
		s.cfg.OnChange(old, next)
	}
}
