package plugin_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
)

func TestNothingOfAPluginIsLeftOnceItsHostIsGoneForGood(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spec spec
		act  func(pid int) error
	}{
		"in order":                   {},
		"stopped":                    {act: func(pid int) error { return syscall.Kill(pid, syscall.SIGSTOP) }},
		"hangs in Stop":              {spec: spec{IgnoreStop: true}},
		"hangs after it was stopped": {spec: spec{Outlive: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c.spec.Name, c.spec.Version = "probe", "1.0.0"
			c.spec.Offspring = filepath.Join(t.TempDir(), "offspring")
			install(t, dir, c.spec)
			state := filepath.Join(t.TempDir(), "state")
			cmd, pid := spawnHost(t, dir, state, time.Second)
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if processGone(pid) {
				t.Error("it ended with its host")
			}
			if c.act != nil {
				// The kernel has a stopped process of an orphaned group go on.
				if err := c.act(pid); err != nil {
					t.Fatal(err)
				}
			}
			awaitGone(t, pid)
			child, err := os.ReadFile(c.spec.Offspring)
			if err != nil {
				t.Fatal(err)
			}
			if name == "stopped" {
				// The kernel ends the plugin alone; the next host does the rest.
				startHost(t, t.TempDir(), func(c *plugin.Config) { c.StateDir = state })
			}
			awaitGone(t, atoi(t, string(child)))
		})
	}
}

func TestPluginWithAHostIsNoOrphan(t *testing.T) {
	t.Parallel()
	const orphan = 3 * time.Second
	h, first := startProbe(t, func(c *plugin.Config) { c.OrphanAfter = orphan })
	at := time.Now()
	other, _ := h.handOver(t, func(c *plugin.Config) { c.OrphanAfter = orphan })
	waittest.Until(t, "an orphan would have ended, and the kernel's timer gone off", func() bool { return time.Since(at) > orphan+6*time.Second })
	other.same(t, first)
}

// hangUp breaks this process's connections to the plugin's socket.
func (h *host) hangUp(t *testing.T) {
	t.Helper()
	var record struct{ Socket string }
	data, err := os.ReadFile(filepath.Join(h.state, "plugins", "probe.json"))
	if err == nil {
		err = json.Unmarshal(data, &record)
	}
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	broken := 0
	for _, e := range entries {
		fd := atoi(t, e.Name())
		peer, err := syscall.Getpeername(fd)
		if unix, ok := peer.(*syscall.SockaddrUnix); err == nil && ok && unix.Name == record.Socket {
			if err := syscall.Shutdown(fd, syscall.SHUT_RDWR); err != nil {
				t.Fatal(err)
			}
			broken++
		}
	}
	if broken == 0 {
		t.Fatalf("no connection to %s was found", record.Socket)
	}
}

func TestPluginWhoseConnectionBreaksHasItsHostStill(t *testing.T) {
	t.Parallel()
	const orphan = 3 * time.Second
	h, first := startProbe(t, func(c *plugin.Config) { c.OrphanAfter = orphan })
	h.hangUp(t)
	at := time.Now()
	waittest.Until(t, "an orphan would have ended", func() bool { return time.Since(at) > orphan+time.Second })
	h.same(t, first)
	if got, err := h.ask(t, "probe", plugin.Task{Capability: "count", Payload: []byte("1")}); err != nil || got != "1.0.0 1" {
		t.Errorf("after its connection broke: %q, %v", got, err)
	}
}
