//go:build linux

package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
)

func TestPluginRunsAndReportsWhatItIsAndUses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := install(t, dir, spec{Name: "probe", Version: "1.0.0"})
	h := startHost(t, dir, nil)
	s := h.awaitState(t, "probe", plugin.Running)
	if s.Version != "1.0.0" || s.Digest != "sha256:"+want.SHA256 || s.PID == 0 || s.Restarts != 0 || s.Exceptions != 0 {
		t.Errorf("status %+v", s)
	}
	if s.Usage.RSSBytes == 0 || s.Usage.OpenFDs == 0 {
		t.Errorf("usage %+v: nothing measured", s.Usage)
	}
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", s.PID)); err != nil || string(comm) != "probe\n" {
		t.Errorf("ps shows it as %q, %v", comm, err)
	}
	got, err := h.ask(t, "probe", plugin.Task{ID: "t", Capability: "count", Payload: []byte("3"), Cursor: "1"})
	if err != nil || got != "1.0.0 21.0.0 3" {
		t.Errorf("count: %q, %v", got, err)
	}
	h.end()
	awaitGone(t, s.PID)
	if s := h.status("probe"); s.State != plugin.Stopped || s.PID != 0 {
		t.Errorf("after Run: %+v", s)
	}
	if left, _ := os.ReadDir(filepath.Join(h.state, "room")); len(left) != 0 {
		t.Errorf("sockets or scratch directories are left: %v", left)
	}
}

func TestLimitsOfTheManifestReachThePluginAndItsStatus(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := spec{Name: "probe", Version: "1.0.0"}
	m := manifest(s)
	m.Limits = plugin.Limits{Files: 123}
	if _, err := plugin.Install(dir, build(t, s), m); err != nil {
		t.Fatal(err)
	}
	h := startHost(t, dir, nil)
	running := h.awaitState(t, "probe", plugin.Running)
	if running.Limits != "files by rlimit" {
		t.Errorf("Status.Limits: %q", running.Limits)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", running.PID))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok && strings.Join(strings.Fields(rest), " ") != "123 123 files" {
			t.Errorf("open files: %s", rest)
		}
	}
}

func TestKilledPluginIsRestartedWithBackoffAndCounted(t *testing.T) {
	t.Parallel()
	h, first := startProbe(t, nil)
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := h.awaitAnother(t, "probe", first)
	if second.Restarts != 1 || second.Exceptions != 1 {
		t.Errorf("want 1 restart and 1 exception, found %+v", second)
	}
	if _, err := h.ask(t, "probe", plugin.Task{Capability: "count", Payload: []byte("1")}); err != nil {
		t.Errorf("after the restart: %v", err)
	}
}

func TestCrashLoopIsQuarantinedUntilAFileChanges(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]spec{
		"before the handshake": {Name: "probe", Version: "1.0.0", ExitEarly: true},
		"in start":             {Name: "probe", Version: "1.0.0", ExitInStart: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			install(t, dir, s)
			h := startHost(t, dir, func(c *plugin.Config) { c.CrashLimit = 3 })
			q := h.awaitState(t, "probe", plugin.Quarantined)
			if q.Exceptions != 3 || q.Restarts != 2 || q.PID != 0 {
				t.Errorf("want 3 exceptions after 2 restarts, found %+v", q)
			}
			if !strings.Contains(q.Reason, "frobnicator") && !strings.Contains(q.Reason, "cannot bear it") {
				t.Errorf("the reason does not hold the plugin's last words: %s", q.Reason)
			}
			if _, err := h.ask(t, "probe", plugin.Task{Capability: "count"}); !errors.Is(err, plugin.ErrNotRunning) {
				t.Errorf("Execute: want ErrNotRunning, found %v", err)
			}
			// A touch gives it another round.
			future := time.Now().Add(-time.Hour)
			if err := os.Chtimes(filepath.Join(dir, "probe"), future, future); err != nil {
				t.Fatal(err)
			}
			h.await(t, "probe", "tried again", func(s plugin.Status) bool { return s.Exceptions >= 6 && s.State == plugin.Quarantined })
			// A good version ends it.
			install(t, dir, spec{Name: "probe", Version: "1.0.1"})
			h.awaitVersion(t, "probe", "1.0.1")
		})
	}
}

func TestFrozenPluginIsKilledAndRestarted(t *testing.T) {
	t.Parallel()
	h, first := startProbe(t, func(c *plugin.Config) { c.HealthTimeout = 500 * time.Millisecond })
	if err := syscall.Kill(first.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	h.awaitState(t, "probe", plugin.Degraded)
	s := h.awaitAnother(t, "probe", first)
	if s.Restarts < 1 || s.Exceptions < 3 {
		t.Errorf("want a restart, two missed checks and a death counted, found %+v", s)
	}
	awaitGone(t, first.PID)
}

func TestRunReturnsOnTimeWhateverAPluginDoes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spec  spec
		state plugin.State
		act   func(pid int) error
	}{
		"stopped process":  {spec{Version: "1.0.0"}, plugin.Running, func(pid int) error { return syscall.Kill(pid, syscall.SIGSTOP) }},
		"ignores stop":     {spec{Version: "1.0.0", IgnoreStop: true}, plugin.Running, nil},
		"hangs in start":   {spec{Version: "1.0.0", HangInStart: true}, plugin.Starting, nil},
		"frozen in start":  {spec{Version: "1.0.0", HangInStart: true}, plugin.Starting, func(pid int) error { return syscall.Kill(pid, syscall.SIGSTOP) }},
		"offspring stays":  {spec{Version: "1.0.0"}, plugin.Running, nil},
		"task never ends":  {spec{Version: "1.0.0", IgnoreStop: true}, plugin.Running, nil},
		"consumer is slow": {spec{Version: "1.0.0"}, plugin.Running, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.spec.Name = "probe"
			install(t, dir, c.spec)
			h := startHost(t, dir, func(c *plugin.Config) {
				c.StopTimeout = 500 * time.Millisecond
				c.HealthEvery = time.Hour
			})
			s := h.await(t, "probe", string(c.state), func(s plugin.Status) bool { return s.State == c.state && s.PID != 0 })
			if c.act != nil {
				if err := c.act(s.PID); err != nil {
					t.Fatal(err)
				}
			}
			block := make(chan struct{})
			defer close(block)
			switch name {
			case "offspring stays":
				if _, err := h.ask(t, "probe", plugin.Task{Capability: "offspring"}); err != nil {
					t.Fatal(err)
				}
			case "task never ends", "consumer is slow":
				streaming := make(chan struct{}, 1)
				go func() {
					_ = h.Execute(context.Background(), "probe", plugin.Task{Capability: "count"}, func(plugin.Result) error {
						select {
						case streaming <- struct{}{}:
						default:
						}
						if name == "consumer is slow" {
							<-block
						}
						return nil
					})
				}()
				<-streaming
			}
			h.end()
			awaitGone(t, s.PID)
		})
	}
}

func TestGrandchildrenEndWithTheirPlugin(t *testing.T) {
	t.Parallel()
	h, first := startProbe(t, nil)
	child, err := h.ask(t, "probe", plugin.Task{Capability: "offspring"})
	if err != nil {
		t.Fatal(err)
	}
	// The child holds the plugin's output pipes: the death must be seen all
	// the same.
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.awaitAnother(t, "probe", first)
	awaitGone(t, atoi(t, child))
}

func TestUnhealthyPluginIsDegradedNotKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	problem := filepath.Join(t.TempDir(), "problem")
	install(t, dir, spec{Name: "probe", Version: "1.0.0", Problem: problem})
	h := startHost(t, dir, func(c *plugin.Config) { c.Required = []string{"probe"} })
	first := h.awaitState(t, "probe", plugin.Running)
	if err := h.Ready(); err != nil {
		t.Errorf("Ready: %v", err)
	}
	if err := os.WriteFile(problem, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := h.awaitState(t, "probe", plugin.Degraded)
	if s.PID != first.PID || !strings.Contains(s.Reason, "the source is unreadable") {
		t.Errorf("status %+v", s)
	}
	if err := h.Ready(); err == nil || !strings.Contains(err.Error(), "probe is degraded: the source is unreadable") {
		t.Errorf("Ready: %v", err)
	}
	if err := os.Remove(problem); err != nil {
		t.Fatal(err)
	}
	if s := h.awaitState(t, "probe", plugin.Running); s.PID != first.PID || s.Exceptions != 1 {
		t.Errorf("status %+v", s)
	}
}

func TestRemovedPluginIsStoppedAndForgotten(t *testing.T) {
	t.Parallel()
	h, s := startProbe(t, nil)
	if err := os.Remove(filepath.Join(h.dir, "probe"+plugin.ManifestSuffix)); err != nil {
		t.Fatal(err)
	}
	// An executable without a manifest is told, not passed over.
	if s := h.awaitState(t, "probe", plugin.Refused); !strings.Contains(s.Reason, "there is no probe.plugin.yaml beside the executable") {
		t.Errorf("found %+v", s)
	}
	awaitGone(t, s.PID)
	if err := os.Remove(filepath.Join(h.dir, "probe")); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "it is not listed any more", func() bool { return len(h.List()) == 0 })
	if _, err := h.ask(t, "probe", plugin.Task{Capability: "count"}); !errors.Is(err, plugin.ErrNotFound) {
		t.Errorf("Execute: want ErrNotFound, found %v", err)
	}
	install(t, h.dir, spec{Name: "probe", Version: "1.0.2"})
	h.awaitVersion(t, "probe", "1.0.2")
}

func TestRunTwiceIsRefused(t *testing.T) {
	t.Parallel()
	m, err := plugin.New(plugin.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := m.Run(ctx); err != nil {
		t.Errorf("first: %v", err)
	}
	if err := m.Run(ctx); err == nil {
		t.Error("second: want an error")
	}
}
