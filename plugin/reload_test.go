//go:build linux

package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
)

// collector does what a host does with a plugin's results: it keeps payloads
// and then the cursor, and executes again after an interruption.
type collector struct {
	mu     sync.Mutex
	kept   []string
	cursor string
}

func (c *collector) run(ctx context.Context, h *host) error {
	for {
		c.mu.Lock()
		task := plugin.Task{Capability: "count", Cursor: c.cursor, Resumable: true}
		c.mu.Unlock()
		err := h.Execute(ctx, "probe", task, func(r plugin.Result) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.kept = append(c.kept, string(r.Payload))
			c.cursor = r.Cursor
			return nil
		})
		if ctx.Err() != nil {
			return nil //nolint:nilerr // its end was asked for
		}
		if !errors.Is(err, plugin.ErrInterrupted) && !errors.Is(err, plugin.ErrNotRunning) {
			return err
		}
	}
}

func (c *collector) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.kept) == 0 {
		return ""
	}
	return c.kept[len(c.kept)-1]
}

func TestReloadUnderAStreamLosesNothing(t *testing.T) {
	t.Parallel()
	h, first := startProbe(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	c, failed := &collector{}, make(chan error, 1)
	go func() { failed <- c.run(ctx, h) }()
	for _, version := range []string{"1.1.0", "1.2.0"} {
		install(t, h.dir, spec{Name: "probe", Version: version})
		waittest.Nil(t, version+" gives results", func() error {
			if last := c.last(); !strings.HasPrefix(last, version+" ") {
				return fmt.Errorf("the last result is %q", last)
			}
			return nil
		})
	}
	s := h.awaitVersion(t, "probe", "1.2.0")
	if s.Restarts != 0 || s.Exceptions != 0 {
		t.Errorf("a reload was counted as a failure: %+v", s)
	}
	awaitGone(t, first.PID)
	cancel()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	for i, payload := range c.kept {
		_, n, _ := strings.Cut(payload, " ")
		if n != strconv.Itoa(i+1) {
			t.Fatalf("result %d is %q: something was lost or came twice in an orderly reload", i+1, payload)
		}
	}
	entries := func(dir string) int {
		left, _ := os.ReadDir(filepath.Join(h.state, dir))
		return len(left)
	}
	waittest.Until(t, "no room of an old generation is left", func() bool { return entries("room") == 1 })
	// The copies of earlier generations go with a later change.
	waittest.Until(t, "copies of old generations do not pile up", func() bool { return entries("run") <= 2 })
}

func TestHalfWrittenPairKeepsTheOldRunning(t *testing.T) {
	t.Parallel()
	h, old := startProbe(t, nil)

	staging := t.TempDir()
	install(t, staging, spec{Name: "probe", Version: "1.1.0"})
	exe, err := os.ReadFile(filepath.Join(staging, "probe"))
	if err != nil {
		t.Fatal(err)
	}
	yaml, err := os.ReadFile(filepath.Join(staging, "probe"+plugin.ManifestSuffix))
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		name string
		path string
		data []byte
	}{
		{"manifest cut short", "probe" + plugin.ManifestSuffix, yaml[:len(yaml)/2]},
		{"manifest empty", "probe" + plugin.ManifestSuffix, nil},
		{"manifest without its executable", "probe" + plugin.ManifestSuffix, yaml},
		{"executable cut short", "probe.new", exe[:len(exe)/2]},
	}
	for _, step := range steps {
		path := filepath.Join(h.dir, step.path)
		if err := os.WriteFile(path, step.data, 0o755); err != nil {
			t.Fatal(err)
		}
		if step.path == "probe.new" {
			if err := os.Rename(path, filepath.Join(h.dir, "probe")); err != nil {
				t.Fatal(err)
			}
		}
		h.await(t, "probe", step.name, func(s plugin.Status) bool {
			return s.State == plugin.Running && s.Version == "1.0.0" && strings.Contains(s.Reason, "1.0.0 stays in force")
		})
	}
	// Even now the old one must survive a crash: its copy is private.
	if s := h.status("probe"); s.PID != old.PID || s.Exceptions != 0 {
		t.Errorf("the old generation was disturbed: %+v", s)
	}
	if _, err := h.ask(t, "probe", plugin.Task{Capability: "crash"}); !errors.Is(err, plugin.ErrInterrupted) {
		t.Errorf("crash: %v", err)
	}
	h.await(t, "probe", "restarted from the copy", func(s plugin.Status) bool {
		return s.State == plugin.Running && s.Version == "1.0.0" && s.PID != old.PID
	})
	if err := os.WriteFile(filepath.Join(h.dir, "probe"), exe, 0o755); err != nil {
		t.Fatal(err)
	}
	if s := h.awaitVersion(t, "probe", "1.1.0"); s.Reason != "" {
		t.Errorf("a reason is left: %s", s.Reason)
	}
}

func TestNewGenerationThatFailsLeavesTheOldInCharge(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]spec{
		"crashes before the handshake": {Name: "probe", Version: "2.0.0", ExitEarly: true},
		"crashes in start":             {Name: "probe", Version: "2.0.0", ExitInStart: true},
		"says it is another version":   {Name: "probe", Version: "2.0.0", Report: "1.9.9"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			good := install(t, dir, spec{Name: "probe", Version: "1.0.0"})
			h := startHost(t, dir, func(c *plugin.Config) { c.CrashLimit = 2 })
			old := h.awaitState(t, "probe", plugin.Running)
			install(t, dir, bad)
			s := h.await(t, "probe", "reporting the bad one", func(s plugin.Status) bool {
				return strings.Contains(s.Reason, "is quarantined") || strings.Contains(s.Reason, "is refused")
			})
			if s.State != plugin.Running || s.PID != old.PID || s.Digest != "sha256:"+good.SHA256 {
				t.Errorf("the old generation is not in charge: %+v", s)
			}
			// It also comes back after a crash, not the bad one.
			if _, err := h.ask(t, "probe", plugin.Task{Capability: "crash"}); !errors.Is(err, plugin.ErrInterrupted) {
				t.Errorf("crash: %v", err)
			}
			h.await(t, "probe", "back", func(s plugin.Status) bool {
				return s.State == plugin.Running && s.Version == "1.0.0" && s.PID != old.PID
			})
			install(t, dir, spec{Name: "probe", Version: "2.0.1"})
			h.awaitVersion(t, "probe", "2.0.1")
		})
	}
}

func TestOldGenerationThatDiesWhileTheNewOneFailsComesBack(t *testing.T) {
	t.Parallel()
	h, old := startProbe(t, func(c *plugin.Config) {
		c.CrashLimit, c.BackoffMin, c.BackoffMax = 4, 300*time.Millisecond, 300*time.Millisecond
	})
	install(t, h.dir, spec{Name: "probe", Version: "2.0.0", ExitEarly: true})
	h.await(t, "probe", "trying the new one", func(s plugin.Status) bool { return strings.Contains(s.Reason, "will be tried again") })
	if _, err := h.ask(t, "probe", plugin.Task{Capability: "crash"}); !errors.Is(err, plugin.ErrInterrupted) {
		t.Errorf("crash: %v", err)
	}
	h.await(t, "probe", "back", func(s plugin.Status) bool {
		return s.State == plugin.Running && s.Version == "1.0.0" && s.PID != old.PID && strings.Contains(s.Reason, "is quarantined")
	})
}

// TestReplacementThatGoesWellIsNoWarning: whoever is woken by warnings would be
// by every new version.
func TestReplacementThatGoesWellIsNoWarning(t *testing.T) {
	t.Parallel()
	var log waittest.Log
	h, _ := startProbe(t, func(c *plugin.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	install(t, h.dir, spec{Name: "probe", Version: "1.0.1"})
	h.awaitVersion(t, "probe", "1.0.1")
	if !log.Has("will replace") {
		t.Errorf("it is not told: %s", &log)
	}
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "level=WARN") && strings.Contains(line, "will replace") {
			t.Error(line)
		}
	}
}
