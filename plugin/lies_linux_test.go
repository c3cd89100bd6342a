package plugin_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
)

// innocent is a process that has nothing to do with plugins.
func innocent(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// begun is what a record says of when a process began.
func begun(t *testing.T, pid int) string {
	t.Helper()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	return strings.TrimSpace(string(boot)) + "/" + fields[19]
}

func TestRecordThatLiesIsNotTrustedAndKillsNobodyElse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lie func(t *testing.T, r map[string]any, bystander int)
		// says is the reason in the log; killed that the plugin's process was
		// known to be this host's.
		says   string
		killed bool
	}{
		"another process got the id": {func(_ *testing.T, r map[string]any, bystander int) { r["pid"] = bystander }, "has ended", false},
		"another process altogether": {func(t *testing.T, r map[string]any, bystander int) {
			r["pid"], r["started"] = bystander, begun(t, bystander)
		}, "was not started for", false},
		"another boot": {func(_ *testing.T, r map[string]any, _ int) {
			r["started"] = "00000000-0000-0000-0000-000000000000/1"
		}, "has ended", false},
		"another image":  {func(_ *testing.T, r map[string]any, _ int) { r["image"] = strings.Repeat("0", 64) }, "plugin digest differs", true},
		"another digest": {func(_ *testing.T, r map[string]any, _ int) { r["digest"] = strings.Repeat("0", 64) }, "the record says", true},
		"another plugin": {func(_ *testing.T, r map[string]any, _ int) { r["name"] = "other" }, "as the file is called", false},
		"another version": {func(_ *testing.T, r map[string]any, _ int) {
			r["version"], r["manifest"] = "1.0.1", strings.Replace(r["manifest"].(string), "1.0.0", "1.0.1", 1)
		}, `the executable says "probe" "1.0.0"`, true},
		"another protocol": {func(_ *testing.T, r map[string]any, _ int) { r["protocol"] = 2 }, "protocol: want 1, found 2", true},
		"another schema":   {func(_ *testing.T, r map[string]any, _ int) { r["schema"] = 2 }, "schema: want 1, found 2", false},
		"another room":     {func(_ *testing.T, r map[string]any, _ int) { r["room"] = "/tmp" }, "room: want one in", false},
		"another state directory": {func(_ *testing.T, r map[string]any, _ int) {
			r["charge"] = "1 1"
		}, "not a plugin of this state directory", false},
		"a socket elsewhere": {func(_ *testing.T, r map[string]any, _ int) { r["socket"] = "/tmp/other.sock" }, "want the address of a unix socket in", true},
		"a socket of another process": {func(t *testing.T, r map[string]any, _ int) {
			home, elsewhere := r["dir"].(string)
			if !elsewhere {
				home = r["room"].(string)
			}
			path := filepath.Join(home, "mine")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			r["socket"] = path
		}, "not the plugin's socket", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, first := startProbe(t, nil)
			h.Detach()
			h.end()
			bystander := innocent(t)
			path := filepath.Join(h.state, "plugins", "probe.json")
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var r map[string]any
			if err := json.Unmarshal(data, &r); err != nil {
				t.Fatal(err)
			}
			c.lie(t, r, bystander)
			if data, err = json.Marshal(r); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			var log waittest.Log
			other := h.next(t, func(c *plugin.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			other.awaitAnother(t, "probe", first)
			said := strings.ReplaceAll(log.String(), `\"`, `"`)
			if !strings.Contains(said, c.says) {
				t.Errorf("the log does not say %q:\n%s", c.says, said)
			}
			if processGone(first.PID) != c.killed {
				t.Errorf("the plugin's process is gone: %v, want %v", !c.killed, c.killed)
			}
			if processGone(bystander) {
				t.Error("another process was killed")
			}
			if !c.killed {
				// It would go on until it counts as an orphan.
				if err := syscall.Kill(first.PID, syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			}
			awaitGone(t, first.PID)
		})
	}
}

func TestCopyOfAStateDirectoryLeavesThePluginsOfTheOriginalAlone(t *testing.T) {
	t.Parallel()
	h, first := startProbe(t, nil)
	moved := h.state + "-moved"
	for name, to := range map[string]string{"elsewhere": h.state + "-copy", "in its place": h.state} {
		from := h.state
		if to == h.state {
			if err := os.Rename(h.state, moved); err != nil {
				t.Fatal(err)
			}
			from = moved
		}
		made := to + "-made"
		if out, err := exec.Command("cp", "-a", from, made).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		// The original makes its directory for requests again where it was.
		waittest.Until(t, "the copy is in its place", func() bool {
			return os.RemoveAll(to) == nil && os.Rename(made, to) == nil
		})
		other := startHost(t, h.dir, func(c *plugin.Config) { c.StateDir = to })
		if s := other.awaitState(t, "probe", plugin.Running); s.PID == first.PID {
			t.Errorf("%s: the plugin of the original was taken over", name)
		}
		other.end()
		if processGone(first.PID) {
			t.Fatalf("%s: the plugin of the original was killed", name)
		}
		if to == h.state {
			waittest.Until(t, "the original is in its place", func() bool {
				return os.RemoveAll(to) == nil && os.Rename(moved, to) == nil
			})
		}
	}
	h.same(t, first)
}
