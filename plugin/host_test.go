//go:build linux

package plugin_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
)

// host is a Manager that runs, with short times.
type host struct {
	*plugin.Manager
	dir, state string
	end        func() // stops it and waits; a late end fails the test
}

func startHost(tb testing.TB, dir string, adjust func(*plugin.Config)) *host {
	tb.Helper()
	h := &host{dir: dir, state: filepath.Join(tb.TempDir(), "state")}
	cfg := plugin.Config{
		Dir: dir, StateDir: h.state, HostVersion: "1.4.0",
		ScanEvery: time.Hour, Settle: 100 * time.Millisecond, StartTimeout: 20 * time.Second, StopTimeout: 3 * time.Second,
		DrainTimeout: 300 * time.Millisecond,
		HealthEvery:  200 * time.Millisecond, HealthTimeout: 10 * time.Second,
		BackoffMin: 20 * time.Millisecond, BackoffMax: 100 * time.Millisecond,
	}
	if adjust != nil {
		adjust(&cfg)
	}
	m, err := plugin.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	h.Manager, h.state = m, cfg.StateDir
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	ended := false
	h.end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				tb.Errorf("Run: %v", err)
			}
		case <-time.After(cfg.StopTimeout + 4*time.Second):
			tb.Errorf("Run did not return %s after StopTimeout", 4*time.Second)
		}
	}
	tb.Cleanup(h.end)
	return h
}

// startProbe starts a host of the plugin probe 1.0.0, and returns once that
// runs.
func startProbe(tb testing.TB, adjust func(*plugin.Config)) (*host, plugin.Status) {
	tb.Helper()
	dir := tb.TempDir()
	install(tb, dir, spec{Name: "probe", Version: "1.0.0"})
	h := startHost(tb, dir, adjust)
	return h, h.awaitState(tb, "probe", plugin.Running)
}

func (h *host) status(name string) plugin.Status {
	for _, s := range h.List() {
		if s.Name == name {
			return s
		}
	}
	return plugin.Status{}
}

// await polls until the plugin's status satisfies ok.
func (h *host) await(tb testing.TB, name, what string, ok func(plugin.Status) bool) plugin.Status {
	tb.Helper()
	var last plugin.Status
	waittest.Nil(tb, "plugin "+name+" is "+what, func() error {
		if last = h.status(name); !ok(last) {
			return fmt.Errorf("it is %+v", last)
		}
		return nil
	})
	return last
}

func (h *host) awaitState(tb testing.TB, name string, state plugin.State) plugin.Status {
	tb.Helper()
	return h.await(tb, name, string(state), func(s plugin.Status) bool { return s.State == state })
}

func (h *host) awaitVersion(tb testing.TB, name, version string) plugin.Status {
	tb.Helper()
	return h.await(tb, name, "running "+version, func(s plugin.Status) bool {
		return s.State == plugin.Running && s.Version == version
	})
}

// awaitAnother waits until the plugin runs in another process than before's.
func (h *host) awaitAnother(tb testing.TB, name string, before plugin.Status) plugin.Status {
	tb.Helper()
	return h.await(tb, name, fmt.Sprintf("running, not as process %d", before.PID), func(s plugin.Status) bool {
		return s.State == plugin.Running && s.PID != before.PID
	})
}

// ask executes one task and returns what it yields.
func (h *host) ask(tb testing.TB, name string, task plugin.Task) (string, error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var b strings.Builder
	err := h.Execute(ctx, name, task, func(r plugin.Result) error {
		b.Write(r.Payload)
		return nil
	})
	return b.String(), err
}
