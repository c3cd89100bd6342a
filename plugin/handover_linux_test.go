package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
)

// next starts another host of the same directories.
func (h *host) next(t *testing.T, adjust func(*plugin.Config)) *host {
	t.Helper()
	return startHost(t, h.dir, func(c *plugin.Config) {
		c.StateDir = h.state
		if adjust != nil {
			adjust(c)
		}
	})
}

// handOver has h leave its plugins, and returns the next host and what is
// closed once h has ended.
func (h *host) handOver(t *testing.T, adjust func(*plugin.Config)) (*host, <-chan struct{}) {
	t.Helper()
	h.Detach()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.end()
	}()
	return h.next(t, adjust), ended
}

// same expects that the plugin runs in the process of before.
func (h *host) same(t *testing.T, before plugin.Status) plugin.Status {
	t.Helper()
	s := h.awaitState(t, "probe", plugin.Running)
	if s.PID != before.PID || s.Generation != before.Generation || s.Restarts != before.Restarts || s.Version != before.Version {
		t.Errorf("want the process and the counts of %+v, found %+v", before, s)
	}
	if s.Exceptions != before.Exceptions || s.Inherited != before.Exceptions {
		t.Errorf("want all %d exceptions to be the former host's, found %d of %d", before.Exceptions, s.Inherited, s.Exceptions)
	}
	return s
}

// counted streams numbers into kept until it is stopped, as a caller does that
// keeps cursors, on whichever host is in charge.
type counted struct {
	mu   sync.Mutex
	kept []string
	host *host
}

func (c *counted) move(h *host) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.host = h
}

func (c *counted) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.kept)
}

func (c *counted) run(ctx context.Context) error {
	for {
		c.mu.Lock()
		h, n := c.host, len(c.kept)
		c.mu.Unlock()
		err := h.Execute(ctx, "probe", plugin.Task{Capability: "count", Cursor: strconv.Itoa(n), Resumable: true}, func(r plugin.Result) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.kept = append(c.kept, string(r.Payload))
			return nil
		})
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // its end was asked for
		case errors.Is(err, plugin.ErrInterrupted), errors.Is(err, plugin.ErrNotRunning), errors.Is(err, plugin.ErrNotFound):
		default:
			return fmt.Errorf("after %d: %w", n, err)
		}
	}
}

// complete expects every number, once and in order.
func (c *counted) complete(t *testing.T) {
	t.Helper()
	for i, got := range c.kept {
		if want := fmt.Sprint("1.0.0 ", i+1); got != want {
			t.Fatalf("result %d: want %q, found %q", i, want, got)
		}
	}
}

func TestPluginMissesNothingWhenItsHostHandsOver(t *testing.T) {
	t.Parallel()
	h, first := startProbe(t, func(c *plugin.Config) { c.DetachTimeout = waittest.Patience })
	stream := &counted{host: h}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	streamed := make(chan error, 1)
	go func() { streamed <- stream.run(ctx) }()
	gate := filepath.Join(t.TempDir(), "gate")
	begun, finished := make(chan struct{}), make(chan error, 1)
	go func() {
		var last string
		err := h.Execute(ctx, "probe", plugin.Task{Capability: "until", Payload: []byte(gate)}, func(r plugin.Result) error {
			if last = string(r.Payload); last == "begun" {
				close(begun)
			}
			return nil
		})
		if err == nil && last != "done" {
			err = fmt.Errorf("its last result is %q", last)
		}
		finished <- err
	}()
	waittest.Next(t, "a call that takes its time", begun)
	waittest.Until(t, "the stream flows", func() bool { return stream.len() > 100 })

	other, ended := h.handOver(t, nil)
	other.same(t, first)
	select {
	case <-ended:
		t.Fatal("the first host ended before its call had")
	default:
	}
	if _, err := h.ask(t, "probe", plugin.Task{Capability: "settings"}); !errors.Is(err, plugin.ErrNotRunning) {
		t.Errorf("a new call on the first host: want ErrNotRunning, found %v", err)
	}
	stream.move(other)
	n := stream.len()
	waittest.Until(t, "the stream flows on", func() bool { return stream.len() > n+100 })
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := waittest.Next(t, "the call that was in flight", finished); err != nil {
		t.Errorf("the call that was in flight: %v", err)
	}
	waittest.Next(t, "the end of the first host", ended)
	other.same(t, first)
	stop()
	if err := waittest.Next(t, "the stream", streamed); err != nil {
		t.Error(err)
	}
	stream.complete(t)
}

func TestPluginGoesOnWhenItsHostIsKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	dir, state := t.TempDir(), filepath.Join(t.TempDir(), "state")
	install(t, dir, spec{Name: "probe", Version: "1.0.0"})
	cmd, pid := spawnHost(t, dir, state, time.Minute)
	for range 2 {
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		var again int
		if cmd, again = spawnHost(t, dir, state, time.Minute); again != pid {
			t.Fatalf("the plugin runs as process %d, before it was %d", again, pid)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	var log waittest.Log
	h := startHost(t, dir, func(c *plugin.Config) { c.StateDir, c.Logger = state, slog.New(slog.NewTextHandler(&log, nil)) })
	if s := h.awaitState(t, "probe", plugin.Running); s.PID != pid || s.Generation != 1 || s.Restarts != 0 {
		t.Errorf("want process %d, generation 1 and no restart, found %+v", pid, s)
	}
	if _, err := h.ask(t, "probe", plugin.Task{Capability: "say", Payload: []byte("still here")}); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "what it writes arrives", func() bool { return log.Has("out: still here") && log.Has("err: still here") })
	h.end()
	awaitGone(t, pid)
	if left, _ := os.ReadDir(filepath.Join(state, "room")); len(left) != 0 {
		t.Errorf("rooms are left: %v", left)
	}
	if left, _ := os.ReadDir(filepath.Join(state, "plugins")); len(left) != 0 {
		t.Errorf("records are left: %v", left)
	}
}

func TestPluginWhoseFilesChangedWhileThereWasNoHost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		act   func(t *testing.T, h *host)
		check func(t *testing.T, h *host, first plugin.Status)
	}{
		"is replaced": {
			func(t *testing.T, h *host) { install(t, h.dir, spec{Name: "probe", Version: "1.0.1"}) },
			func(t *testing.T, h *host, first plugin.Status) {
				if s := h.awaitVersion(t, "probe", "1.0.1"); s.Generation != first.Generation+1 {
					t.Errorf("want the next generation, found %+v", s)
				}
			},
		},
		"is stopped if they are gone": {
			func(t *testing.T, h *host) {
				for _, file := range []string{"probe", "probe" + plugin.ManifestSuffix} {
					if err := os.Remove(filepath.Join(h.dir, file)); err != nil {
						t.Fatal(err)
					}
				}
			},
			func(*testing.T, *host, plugin.Status) {},
		},
		"is stopped if it was disabled": {
			func(t *testing.T, h *host) {
				if err := os.WriteFile(filepath.Join(h.state, "disabled.json"), []byte(`{"schema":1,"plugins":{"probe":{"reason":"noisy","since":"2026-01-02T03:04:05Z"}}}`), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			func(t *testing.T, h *host, _ plugin.Status) { h.awaitState(t, "probe", plugin.Disabled) },
		},
		"goes on if they cannot be used": {
			func(t *testing.T, h *host) {
				if err := os.WriteFile(filepath.Join(h.dir, "probe"+plugin.ManifestSuffix), []byte("no"), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			func(t *testing.T, h *host, first plugin.Status) {
				h.await(t, "probe", "running with a remark", func(s plugin.Status) bool { return s.State == plugin.Running && s.Reason != "" })
				h.same(t, first)
				h.end()
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, first := startProbe(t, nil)
			h.Detach()
			h.end()
			c.act(t, h)
			c.check(t, h.next(t, nil), first)
			awaitGone(t, first.PID)
		})
	}
}

func TestOnlyOneHostAtATimeIsInCharge(t *testing.T) {
	t.Parallel()
	h, first := startProbe(t, nil)
	other := h.next(t, nil)
	for range 3 { // the first one goes on supervising
		before := h.awaitState(t, "probe", plugin.Running)
		if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		first = h.awaitAnother(t, "probe", before)
	}
	if all := other.List(); len(all) != 0 {
		t.Errorf("the second host has plugins beside the first: %+v", all)
	}
	h.end()
	other.awaitAnother(t, "probe", first)
	awaitGone(t, first.PID)
}

// TestPluginThatDiesWhileItsFirstHostDrainsLeavesNoZombie: its parent is that
// host, which looks after it no longer.
func TestPluginThatDiesWhileItsFirstHostDrainsLeavesNoZombie(t *testing.T) {
	t.Parallel()
	h, died := startProbe(t, func(c *plugin.Config) { c.DetachTimeout = waittest.Patience })
	if err := syscall.Kill(died.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	first := h.awaitAnother(t, "probe", died) // with an exception that the next host is told of
	begun := make(chan struct{})
	finished := make(chan error, 1)
	go func() {
		finished <- h.Execute(context.Background(), "probe", plugin.Task{Capability: "until", Payload: []byte("/nonexistent")}, func(plugin.Result) error {
			close(begun)
			return nil
		})
	}()
	waittest.Next(t, "a call", begun)
	other, ended := h.handOver(t, nil)
	other.same(t, first)
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := waittest.Next(t, "the call", finished); !errors.Is(err, plugin.ErrInterrupted) {
		t.Errorf("the call: want ErrInterrupted, found %v", err)
	}
	if s := other.awaitAnother(t, "probe", first); s.Restarts != first.Restarts+1 {
		t.Errorf("want a restart counted, found %+v", s)
	}
	waittest.Until(t, "it is reaped", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d", first.PID))
		return errors.Is(err, os.ErrNotExist)
	})
	waittest.Next(t, "the end of the first host", ended)
}

// TestNextHostWaitsForCallsThatAreResumedThere: what such a call still keeps
// under the first host would be done again under the next.
func TestNextHostWaitsForCallsThatAreResumedThere(t *testing.T) {
	t.Parallel()
	const patience = time.Second
	h, first := startProbe(t, func(c *plugin.Config) { c.StopTimeout = patience })
	var once sync.Once
	begun, keep := make(chan struct{}), make(chan struct{})
	finished := make(chan error, 1)
	go func() {
		finished <- h.Execute(context.Background(), "probe", plugin.Task{Capability: "count", Resumable: true}, func(plugin.Result) error {
			once.Do(func() { close(begun) })
			<-keep
			return nil
		})
	}()
	waittest.Next(t, "a call", begun)
	at := time.Now()
	other, ended := h.handOver(t, nil)
	other.same(t, first)
	if took := time.Since(at); took < patience {
		t.Errorf("the next host was in charge after %s, while a call that it is to resume was at work; want it to wait for %s", took, patience)
	}
	close(keep)
	if err := waittest.Next(t, "the call", finished); !errors.Is(err, plugin.ErrInterrupted) {
		t.Errorf("the call: want ErrInterrupted, found %v", err)
	}
	waittest.Next(t, "the end of the first host", ended)
}
