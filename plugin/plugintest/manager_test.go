//go:build unix

package plugintest

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// TestPluginWithoutSDKWorksUnderTheManager is the other direction of the wire:
// the host of this library, and nothing of it in the plugin.
func TestPluginWithoutSDKWorksUnderTheManager(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, manifest := executable(t, build{Name: "raw"})
	if _, err := plugin.Install(dir, path, manifest); err != nil {
		t.Fatal(err)
	}
	m, err := plugin.New(plugin.Config{Dir: dir, StateDir: filepath.Join(t.TempDir(), "state"), ScanEvery: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	first := awaitRunning(t, m, 0)

	for _, c := range []struct {
		task    plugin.Task
		results int
		bytes   int
		err     error
	}{
		{plugin.Task{Capability: "count", Payload: []byte("100")}, 100, 9 + 90*2 + 3, nil},
		{plugin.Task{Capability: "count", Payload: []byte("100"), Cursor: "90"}, 10, 9*2 + 3, nil},
		{plugin.Task{Capability: "large"}, 1, pluginpb.MaxMessageBytes - 16, nil},
		{plugin.Task{Capability: "loud"}, 0, 0, nil},
		{plugin.Task{Capability: "hopeless"}, 0, 0, plugin.ErrPermanent},
	} {
		results, size := 0, 0
		err := m.Execute(ctx, "raw", c.task, func(r plugin.Result) error {
			results++
			size += len(r.Payload)
			return nil
		})
		if results != c.results || size != c.bytes || !errors.Is(err, c.err) {
			t.Errorf("%s %q from %q: want %d results of %d bytes and %v, found %d of %d and %v",
				c.task.Capability, c.task.Payload, c.task.Cursor, c.results, c.bytes, c.err, results, size, err)
		}
	}

	// New settings are a new generation; the old one's task is given back.
	interrupted := make(chan error, 1)
	running := make(chan struct{})
	go func() {
		n := 0
		interrupted <- m.Execute(ctx, "raw", plugin.Task{Capability: "count", Resumable: true}, func(plugin.Result) error {
			if n++; n == 1 {
				close(running)
			}
			return nil
		})
	}()
	<-running
	manifest.Settings = map[string]any{"colour": "blue"}
	if _, err := plugin.Install(dir, path, manifest); err != nil {
		t.Fatal(err)
	}
	if err := waittest.Next(t, "the task of the old generation ends", interrupted); !errors.Is(err, plugin.ErrInterrupted) {
		t.Errorf("want %v, found %v", plugin.ErrInterrupted, err)
	}
	awaitRunning(t, m, first.PID)
	manifest.Settings = map[string]any{"colour": "bad"}
	if _, err := plugin.Install(dir, path, manifest); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the refusal of the settings is told", func() bool {
		s := m.List()[0]
		return s.State == plugin.Running && strings.Contains(s.Reason, "the settings are bad")
	})
}

func awaitRunning(t *testing.T, m *plugin.Manager, before int) (s plugin.Status) {
	t.Helper()
	waittest.Until(t, "the plugin runs in a new process", func() bool {
		all := m.List()
		if len(all) == 1 {
			s = all[0]
		}
		return s.State == plugin.Running && s.PID != before
	})
	return s
}
