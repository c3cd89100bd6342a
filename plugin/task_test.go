//go:build linux

package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
)

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPluginSeesNothingOfTheHostsEnvironmentAndDescriptors(t *testing.T) {
	for _, key := range []string{
		"TABLEFLIP_HAS_PARENT_7DIU3", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC",
		"INVOCATION_ID", "CREDENTIALS_DIRECTORY", "PERENNIAL_TOKEN", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD",
	} {
		t.Setenv(key, "1")
	}
	t.Setenv("TZ", "Europe/Berlin")
	h, s := startProbe(t, nil)
	env, err := h.ask(t, "probe", plugin.Task{Capability: "environ"})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(env, "\n") {
		key, _, _ := strings.Cut(line, "=")
		switch key {
		case "PATH", "HOME", "TZ", "LANG", "LC_ALL", "TMPDIR": // of the host
		case "PWD": // of os/exec
		case "PERENNIAL_PLUGIN", "PERENNIAL_PLUGIN_ROOM", "PERENNIAL_PLUGIN_ORPHAN_SECONDS":
		case "PLUGIN_MIN_PORT", "PLUGIN_MAX_PORT", "PLUGIN_PROTOCOL_VERSIONS", "PLUGIN_UNIX_SOCKET_DIR": // of go-plugin
		default:
			t.Errorf("the plugin sees %s", key)
		}
	}
	if !strings.Contains(env, "TZ=Europe/Berlin") {
		t.Error("the plugin does not see TZ")
	}
	fds, err := h.ask(t, "probe", plugin.Task{Capability: "fds"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"0": "/dev/null", "1": "/stdout", "2": "/stderr"}
	for line := range strings.SplitSeq(strings.TrimSpace(fds), "\n") {
		fd, target, _ := strings.Cut(line, " ")
		if end, ok := want[fd]; ok && !strings.HasSuffix(target, end) {
			t.Errorf("descriptor %s: want %s, found %s", fd, end, target)
		}
		if strings.HasPrefix(target, h.state) && want[fd] == "" {
			t.Errorf("the plugin holds a file of the host's: %s", line)
		}
	}
	if args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.PID)); err != nil || string(args) != "probe\x00" {
		t.Errorf("the process is listed as %q, %v", args, err)
	}
}

func TestSettingsReachThePluginAsJSON(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := spec{Name: "probe", Version: "1.0.0"}
	m := manifest(s)
	m.Settings = map[string]any{"paths": []string{"/var/log/*.log"}, "nested": map[string]any{"n": 3}}
	if _, err := plugin.Install(dir, build(t, s), m); err != nil {
		t.Fatal(err)
	}
	h := startHost(t, dir, nil)
	h.awaitState(t, "probe", plugin.Running)
	got, err := h.ask(t, "probe", plugin.Task{Capability: "settings"})
	if want := `{"nested":{"n":3},"paths":["/var/log/*.log"]}`; err != nil || got != want {
		t.Errorf("want %s, found %s, %v", want, got, err)
	}
	// Settings alone are a new generation too.
	m.Settings = map[string]any{"paths": []string{"/tmp/x"}}
	if _, err := plugin.Install(dir, filepath.Join(dir, "probe"), m); err != nil {
		t.Fatal(err)
	}
	waittest.Until(t, "the new settings arrive", func() bool {
		got, _ = h.ask(t, "probe", plugin.Task{Capability: "settings"})
		return got == `{"paths":["/tmp/x"]}`
	})
}

func TestPluginKnowsItsTask(t *testing.T) {
	t.Parallel()
	h, _ := startProbe(t, nil)
	for want, task := range map[string]plugin.Task{
		"t1 0  true true\n":   {ID: "t1"},
		"t2 3 k1 true true\n": {ID: "t2", Attempt: 3, IdempotencyKey: "k1"},
	} {
		task.Capability = "task"
		if got, err := h.ask(t, "probe", task); got != want || err != nil {
			t.Errorf("want %q, found %q, %v", want, got, err)
		}
	}
}

func TestExecuteErrorsTellWhoseFaultItIs(t *testing.T) {
	t.Parallel()
	h, _ := startProbe(t, nil)
	mine := errors.New("disk full")
	cancelled, cancel := context.WithCancel(context.Background())
	deliver := func(plugin.Result) error { return nil }
	for name, c := range map[string]struct {
		ctx     context.Context
		task    plugin.Task
		deliver func(plugin.Result) error
		is      error
		says    string
		counts  int64
	}{
		"the plugin's own":  {task: plugin.Task{ID: "t1", Capability: "fail"}, says: `plugin probe: task "t1": no such table`, counts: 1},
		"no attempt can":    {task: plugin.Task{ID: "t2", Capability: "sense"}, is: plugin.ErrPermanent, says: `plugin probe: task "t2": it makes no sense: no other attempt can succeed`, counts: 1},
		"not its job":       {task: plugin.Task{Capability: "fly"}, says: `wanted "fly", found`},
		"too large":         {task: plugin.Task{Capability: "flood"}, says: "larger than max", counts: 1},
		"deliver's":         {task: plugin.Task{Capability: "count"}, deliver: func(plugin.Result) error { return mine }, is: mine},
		"the caller's":      {ctx: cancelled, task: plugin.Task{Capability: "count"}, deliver: func(plugin.Result) error { cancel(); return nil }, is: context.Canceled},
		"the process's end": {task: plugin.Task{Capability: "crash"}, is: plugin.ErrInterrupted, counts: 1},
	} {
		t.Run(name, func(t *testing.T) {
			if c.ctx == nil {
				c.ctx = context.Background()
			}
			if c.deliver == nil {
				c.deliver = deliver
			}
			before := h.awaitState(t, "probe", plugin.Running).Exceptions
			err := h.Execute(c.ctx, "probe", c.task, c.deliver)
			if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("found %v", err)
			}
			s := h.await(t, "probe", "counted", func(s plugin.Status) bool { return s.Exceptions == before+c.counts })
			if c.is == plugin.ErrInterrupted { //nolint:errorlint // the table's own value
				h.await(t, "probe", "back", func(now plugin.Status) bool {
					return now.State == plugin.Running && now.PID != s.PID || now.Restarts > 0 && now.State == plugin.Running
				})
			}
		})
	}
}

// TestHostsDeathLeavesNoPlugin kills a real host process.
func TestHostsDeathLeavesNoPlugin(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"kill -9": syscall.SIGKILL, "in order": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			install(t, dir, spec{Name: "probe", Version: "1.0.0"})
			cmd, pid := spawnHost(t, dir, filepath.Join(t.TempDir(), "state"), time.Second)
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			awaitGone(t, pid)
		})
	}
}

// spawnHost starts a host process and returns it and the process of its plugin,
// which goes on for orphan without one.
func spawnHost(t *testing.T, dir, state string, orphan time.Duration) (*exec.Cmd, int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%q %q %d", hostEnv, dir, state, orphan))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	buf := make([]byte, 32)
	n, err := out.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return cmd, atoi(t, string(buf[:n]))
}

func TestLongStateDirStillHasASocket(t *testing.T) {
	deep := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	startProbe(t, func(c *plugin.Config) { c.StateDir = deep; c.HealthEvery = time.Hour })
}

func TestLongTempDirStillHasASocket(t *testing.T) {
	deep := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", deep)
	startProbe(t, func(c *plugin.Config) { c.StateDir = deep; c.HealthEvery = time.Hour })
}
