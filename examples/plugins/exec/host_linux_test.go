package main

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/examples/internal/hosttest"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/plugintest"
)

// hosted is the built plugin under a Manager, once it runs.
func hosted(t *testing.T, commands map[string]any) *hosttest.Host {
	t.Helper()
	host := hosttest.Start(t, map[string]any{"commands": commands})
	waittest.Within(t, time.Minute, "the plugin runs", func() bool {
		all := host.List()
		return len(all) == 1 && all[0].State == plugin.Running
	})
	return host
}

// TestHostilePayloadIsRefusedForGood: whoever may submit tasks runs what the
// settings name and nothing else, and what is refused is not tried again.
func TestHostilePayloadIsRefusedForGood(t *testing.T) {
	t.Parallel()
	mark := filepath.Join(t.TempDir(), "mark")
	touch := map[string]any{"path": "/usr/bin/touch", "dir": filepath.Dir(mark), "args": []string{"${file}", mark}, "params": map[string]any{
		"file": map[string]any{"pattern": `[a-z/.-]*`},
	}}
	host := hosted(t, map[string]any{"touch": touch})
	for name, text := range map[string]string{
		"nothing":                 ``,
		"no object":               `"touch"`,
		"no command":              `{}`,
		"another command":         `{"command":"sh"}`,
		"a path":                  `{"command":"/usr/bin/touch","params":{"file":"x"}}`,
		"a path from a name":      `{"command":"../touch","params":{"file":"x"}}`,
		"a shell's words":         `{"command":"touch; touch","params":{"file":"x"}}`,
		"further arguments":       `{"command":"touch","args":["x"],"params":{"file":"x"}}`,
		"an environment":          `{"command":"touch","env":{"LD_PRELOAD":"/tmp/x.so"},"params":{"file":"x"}}`,
		"a user":                  `{"command":"touch","user":"root","params":{"file":"x"}}`,
		"another parameter":       `{"command":"touch","params":{"file":"x","path":"/bin/sh"}}`,
		"no parameter":            `{"command":"touch"}`,
		"null":                    `{"command":"touch","params":{"file":null}}`,
		"a number":                `{"command":"touch","params":{"file":1}}`,
		"a list":                  `{"command":"touch","params":{"file":["x"]}}`,
		"twice":                   `{"command":"touch","params":{"file":"1","file":"x"}}`,
		"twice in another case":   `{"command":"sh","Command":"touch","params":{"file":"x"}}`,
		"two documents":           `{"command":"touch","params":{"file":"x"}}{}`,
		"deep":                    `{"command":"touch","params":` + strings.Repeat(`{"file":`, 10_000) + `"x"` + strings.Repeat(`}`, 10_001),
		"long":                    `{"command":"touch","params":{"file":"` + strings.Repeat("x", 70_000) + `"}}`,
		"a long value":            `{"command":"touch","params":{"file":"` + strings.Repeat("x", 5000) + `"}}`,
		"an option":               `{"command":"touch","params":{"file":"-r"}}`,
		"a long option":           `{"command":"touch","params":{"file":"--reference"}}`,
		"a line break at the end": `{"command":"touch","params":{"file":"x\n"}}`,
		"a second line":           `{"command":"touch","params":{"file":"x\n;rm"}}`,
		"a NUL byte":              `{"command":"touch","params":{"file":"x\u0000y"}}`,
		"more than the pattern":   `{"command":"touch","params":{"file":"x y"}}`,
	} {
		err := host.Execute(t.Context(), "exec", plugin.Task{ID: "t", Capability: "exec", Payload: []byte(text)}, func(r plugin.Result) error {
			t.Errorf("%s: a result: %s", name, r.Payload)
			return nil
		})
		if !errors.Is(err, plugin.ErrPermanent) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a command was run")
	}
	good := []byte(`{"command":"touch","params":{"file":"."}}`)
	if err := host.Execute(t.Context(), "exec", plugin.Task{Capability: "exec", Payload: good}, func(plugin.Result) error { return nil }); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Error("no command is run at all: ", err)
	}
}

func TestFailureIsForGoodIfTheSettingsSaySo(t *testing.T) {
	t.Parallel()
	host := hosted(t, map[string]any{
		"again": shell("exit 7"),
		"never": with(shell("exit 7"), map[string]any{"failure": "permanent"}),
	})
	for name, permanent := range map[string]bool{"again": false, "never": true} {
		err := host.Execute(t.Context(), "exec", plugin.Task{Capability: "exec", Payload: []byte(`{"command":"` + name + `"}`)}, func(plugin.Result) error { return nil })
		if err == nil || errors.Is(err, plugin.ErrPermanent) != permanent || !strings.Contains(err.Error(), "code 7") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPluginThatEndsLeavesNoProcess, whether it is killed or stopped.
func TestPluginThatEndsLeavesNoProcess(t *testing.T) {
	t.Parallel()
	// The last two have no mark by which the host could find them.
	script := `trap "" TERM
setsid sleep 1000 & echo $!
setsid env -i sh -c 'setsid sleep 1000 & echo $!; sleep 1000 & echo $!'
echo $$
wait`
	for name, end := range map[string]func(*hosttest.Host){
		"killed": func(h *hosttest.Host) {
			if err := syscall.Kill(h.List()[0].PID, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		},
		"stopped": func(h *hosttest.Host) {
			if err := h.Disable("exec", "test"); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			host := hosted(t, map[string]any{"c": with(shell(script), map[string]any{"grace": "100ms"})})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			said, done := make(chan []string, 1), make(chan error, 1)
			go func() {
				out := ""
				done <- host.Execute(ctx, "exec", plugin.Task{Capability: "exec", Payload: payload(nil)}, func(r plugin.Result) error {
					var p piece
					if err := json.Unmarshal(r.Payload, &p); err != nil {
						return err
					}
					if out += p.Text; p.Stream == "stdout" && strings.Count(out, "\n") == 4 {
						said <- strings.Fields(out)
					}
					return nil
				})
			}()
			pids := waittest.Next(t, "all run", said)
			end(host)
			if err := waittest.Next(t, "the task ends", done); !errors.Is(err, plugin.ErrInterrupted) {
				t.Errorf("%v", err)
			}
			for _, text := range pids {
				pid, err := strconv.Atoi(text)
				if err != nil {
					t.Fatal(err)
				}
				waittest.Until(t, "process "+text+" has ended", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
			}
		})
	}
}

// TestConformance runs the built plugin through the suite of every plugin.
func TestConformance(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	settings := map[string]any{"commands": map[string]any{
		"short": map[string]any{"path": "/bin/true"},
		"long":  shell("while :; do echo x; sleep 0.01; done"),
	}}
	hosttest.Install(t, dir, ".", "1.0.0", maps.Clone(settings))
	task := func(command string) plugin.Task {
		return plugin.Task{ID: command, Capability: "exec", Payload: []byte(`{"command":"` + command + `"}`)}
	}
	plugintest.Config{
		BadSettings: json.RawMessage(`{"commands":{"x":{"path":"true"}}}`),
		Short:       task("short"),
		Long:        task("long"),
		Hopeless:    task("none"),
	}.Run(t, filepath.Join(dir, "exec"))
}
