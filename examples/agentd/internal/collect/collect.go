// Package collect keeps one task running on every plugin with the capability
// "collect", and stores what it yields.
//
// The payload of a result is newline-delimited JSON, as POST /v1/records
// takes it. Payload and cursor are stored together, both or neither: a plugin
// that resumes exactly at its cursor has every record stored once, whichever
// of plugin, agent and machine crashes. The task's own payload is the plugin's
// part of agentd's configuration, a JSON object, or empty.
package collect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/perennial-go/perennial/examples/internal/durable"
	"github.com/perennial-go/perennial/examples/internal/sleep"
	"github.com/perennial-go/perennial/examples/internal/spool"
	"github.com/perennial-go/perennial/plugin"
)

// Capability is what a plugin has to name in its manifest.
const Capability = "collect"

// Plugins is the part of *plugin.Manager that a Collector needs.
type Plugins interface {
	List() []plugin.Status
	Execute(ctx context.Context, name string, task plugin.Task, f func(plugin.Result) error) error
}

// Config says what to collect from and where to. Plugins, Spool and Dir must
// be set.
type Config struct {
	Plugins Plugins
	Spool   *spool.Spool
	// Dir keeps the cursors, the state of a spool.Stream for each plugin. New
	// creates it. One process at a time collects with it: Run waits for the one
	// before.
	Dir string
	// Settings returns the payload of a plugin's task and whether to collect
	// through it at all. It is asked once a second; a changed payload starts
	// the task anew. Nil collects through every plugin, without payload.
	Settings func(name string) (payload []byte, enabled bool)
	// Logger gets failures; nil discards.
	Logger *slog.Logger
}

// Collector collects.
type Collector struct {
	Config
	every    time.Duration
	minDelay time.Duration
	maxDelay time.Duration
	blocked  func() // called if another collector has to end first
}

// New checks the Config and creates its directory.
func New(cfg Config) (*Collector, error) {
	if cfg.Plugins == nil || cfg.Spool == nil || cfg.Dir == "" {
		return nil, errors.New("collect: want Plugins, a Spool and a Dir, found one of them missing: set all in Config")
	}
	if cfg.Settings == nil {
		cfg.Settings = func(string) ([]byte, bool) { return nil, true }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := durable.MakeDir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("collect: the cursors' directory: %w", err)
	}
	c := &Collector{Config: cfg, every: time.Second, minDelay: 500 * time.Millisecond, maxDelay: time.Minute}
	c.blocked = func() { c.Logger.Info("collection begins when the process before has ended its own") }
	return c, nil
}

// Run collects until ctx ends; it then returns nil. It is called once.
func (c *Collector) Run(ctx context.Context) error {
	// In a swap the incumbent may still be storing its last results: two
	// collectors at once would repeat records and move cursors back.
	unlock, err := lock(ctx, filepath.Join(c.Dir, "lock"), c.blocked)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("collect: %w", err)
	}
	defer unlock()
	c.sweep()
	running := map[string]*task{}
	var all sync.WaitGroup
	defer all.Wait() // before unlock
	tick := time.NewTicker(c.every)
	defer tick.Stop()
	for {
		c.reconcile(ctx, running, &all)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sweep removes what a process left that was killed while it saved a cursor.
func (c *Collector) sweep() {
	left, err := filepath.Glob(filepath.Join(c.Dir, ".tmp-*"))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	if err != nil {
		c.Logger.Warn("unfinished cursor files were left", "path", c.Dir, "error", err)
	}
}

// task is one plugin's collection.
type task struct {
	payload []byte
	cancel  context.CancelFunc
	done    chan struct{}
}

// reconcile makes running what is wanted now.
func (c *Collector) reconcile(ctx context.Context, running map[string]*task, all *sync.WaitGroup) {
	wanted := map[string][]byte{}
	for _, p := range c.Plugins.List() {
		if !slices.Contains(p.Capabilities, Capability) {
			continue
		}
		if payload, enabled := c.Settings(p.Name); enabled {
			wanted[p.Name] = payload
		}
	}
	for name, t := range running {
		if payload, ok := wanted[name]; !ok || !bytes.Equal(payload, t.payload) {
			t.cancel()
			<-t.done // so that it cannot overtake its successor's cursor
			delete(running, name)
		}
	}
	for name, payload := range wanted {
		if running[name] != nil {
			continue
		}
		taskCtx, cancel := context.WithCancel(ctx)
		t := &task{payload: payload, cancel: cancel, done: make(chan struct{})}
		running[name] = t
		all.Go(func() {
			defer close(t.done)
			defer cancel()
			c.keep(taskCtx, name, payload)
		})
	}
}

// keep executes the plugin's task again whenever it ends.
func (c *Collector) keep(ctx context.Context, name string, payload []byte) {
	var to *spool.Stream
	defer func() { c.close(name, to) }()
	delay := retry{min: c.minDelay, max: c.maxDelay}
	for {
		var stored bool
		var err error
		if to == nil {
			to, err = c.open(name)
		}
		if err == nil {
			stored, err = c.once(ctx, name, payload, to)
		}
		if _, failed := errors.AsType[*storeError](err); failed {
			c.close(name, to)
			to = nil
		}
		if ctx.Err() != nil {
			return
		}
		if stored {
			delay.reset()
		}
		wait := delay.next()
		switch {
		case err == nil, errors.Is(err, plugin.ErrInterrupted), errors.Is(err, plugin.ErrNotRunning), errors.Is(err, plugin.ErrNotFound):
			c.Logger.Debug("collection paused", "plugin", name, "duration", wait, "reason", err)
		default:
			c.Logger.Error("collection failed", "plugin", name, "duration", wait, "error", err)
		}
		if sleep.For(ctx, wait) != nil {
			return
		}
	}
}

// open opens the stream of a plugin. One that cannot be used is an error and
// no fresh start, which would collect everything once more.
func (c *Collector) open(name string) (*spool.Stream, error) {
	to, err := c.Spool.OpenStream(filepath.Join(c.Dir, name+".json"))
	if err != nil {
		return nil, fmt.Errorf("the cursor of plugin %s: %w", name, err)
	}
	if lost := to.Lost(); lost > 0 {
		c.Logger.Error("stored records are missing from the end of a file: something else has shortened it", "plugin", name, "path", c.Dir, "bytes", lost)
	}
	return to, nil
}

func (c *Collector) close(name string, to *spool.Stream) {
	if to == nil {
		return
	}
	if err := to.Close(); err != nil {
		c.Logger.Warn("a file of the spool could not be closed; what was stored is stored", "plugin", name, "error", err)
	}
}
