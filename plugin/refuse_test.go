//go:build linux

package plugin_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/perennial-go/perennial/internal/atomicfile"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
)

func TestExecutableWithAnotherDigestIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := install(t, dir, spec{Name: "probe", Version: "1.0.0"})
	exe := filepath.Join(dir, "probe")
	// One byte more: it would run as well as before.
	f, err := os.OpenFile(exe, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(" "); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	h := startHost(t, dir, nil)
	s := h.awaitState(t, "probe", plugin.Refused)
	for _, part := range []string{"probe: wanted sha256 " + m.SHA256, "found ", "copy the executable that belongs to the manifest"} {
		if !strings.Contains(s.Reason, part) {
			t.Errorf("the reason lacks %q: %s", part, s.Reason)
		}
	}
	if s.PID != 0 || s.Exceptions != 0 {
		t.Errorf("it was started: %+v", s)
	}
	left, _ := os.ReadDir(filepath.Join(h.state, "run"))
	for _, e := range left {
		// The next scan may just be hashing it again.
		if !strings.HasPrefix(e.Name(), atomicfile.TempPrefix) {
			t.Errorf("a refused executable is in the depot: %v", e)
		}
	}
	if _, err := h.ask(t, "probe", plugin.Task{Capability: "count"}); !errors.Is(err, plugin.ErrNotRunning) || !strings.Contains(err.Error(), m.SHA256) {
		t.Errorf("Execute: want ErrNotRunning with the reason, found %v", err)
	}
	install(t, dir, spec{Name: "probe", Version: "1.0.0"})
	h.awaitState(t, "probe", plugin.Running)
}

func TestDamagedCopyIsNotRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := install(t, dir, spec{Name: "probe", Version: "1.0.0"})
	h := startHost(t, dir, nil)
	first := h.awaitState(t, "probe", plugin.Running)
	private := filepath.Join(h.state, "run", m.SHA256)
	if err := os.Remove(private); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(private, []byte("#!/bin/sh\nexec sleep 600\n"), 0o500); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// It is made anew from the original.
	h.awaitAnother(t, "probe", first)
	if got, err := os.ReadFile(private); err != nil || bytes.HasPrefix(got, []byte("#!")) {
		t.Errorf("the damaged copy is still there: %v", err)
	}
}

func TestPluginsLogReachesTheHostWithItsLevel(t *testing.T) {
	t.Parallel()
	var log waittest.Log
	startProbe(t, func(c *plugin.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	waittest.Until(t, "the log holds what the plugin said", func() bool {
		return strings.Contains(log.String(), `level=WARN msg="plugin says" plugin=probe plugin_version=1.0.0 text="hello from the plugin" fields=map[version:1.0.0]`)
	})
}

func TestHostVersionThatAPluginExcludesIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := spec{Name: "probe", Version: "1.0.0"}
	m := manifest(s)
	m.Host = ">=1.2.0 <1.6.0"
	if _, err := plugin.Install(dir, build(t, s), m); err != nil {
		t.Fatal(err)
	}
	install(t, dir, spec{Name: "other", Version: "3.0.0"})
	h := startHost(t, dir, nil)
	h.awaitState(t, "probe", plugin.Running)
	h.awaitState(t, "other", plugin.Running)
	for version, ok := range map[string]bool{"1.5.9": true, "1.5.0-rc.1": true, "1.6.0": false, "2.0.0": false, "1.1.0": false} {
		err := h.Compatible(version)
		if ok && err != nil || !ok && (!errors.Is(err, plugin.ErrIncompatible) || !strings.Contains(err.Error(), "plugin probe 1.0.0 wants a host >=1.2.0 <1.6.0, found "+version)) {
			t.Errorf("%s: want ok=%t, found %v", version, ok, err)
		}
	}
	if err := h.Compatible("latest"); err == nil {
		t.Error("latest: want an error")
	}
}

func TestConfigThatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil { //nolint:gosec // the point of the case
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cfg  plugin.Config
		says string
	}{
		"no such directory":         {plugin.Config{Dir: filepath.Join(dir, "x"), StateDir: dir}, "does not exist; create it"},
		"a file":                    {plugin.Config{Dir: file, StateDir: dir}, "want a directory"},
		"everybody can write to it": {plugin.Config{Dir: open, StateDir: dir}, "chmod go-w it"},
		"no state directory":        {plugin.Config{Dir: dir}, "StateDir is not set"},
		"required, no directory":    {plugin.Config{Required: []string{"p"}}, "Config.Dir is not set"},
		"required, no name":         {plugin.Config{Dir: dir, StateDir: dir, Required: []string{"../p"}}, "cannot be a plugin's name"},
		"host version":              {plugin.Config{HostVersion: "dev"}, "want a complete SemVer version"},
		"negative time":             {plugin.Config{StopTimeout: -1}, "want a positive duration"},
		"back-off upside down":      {plugin.Config{BackoffMin: 9, BackoffMax: 8}, "want at least BackoffMin"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := plugin.New(c.cfg); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("want %q, found %v", c.says, err)
			}
		})
	}
}

func TestRequiredPluginThatIsAbsentIsListedAndNotReady(t *testing.T) {
	t.Parallel()
	h := startHost(t, t.TempDir(), func(c *plugin.Config) { c.Required = []string{"probe"} })
	s := h.status("probe")
	if s.State != plugin.Refused || !strings.Contains(s.Reason, "there is no probe.plugin.yaml in "+h.dir) {
		t.Errorf("status %+v", s)
	}
	if err := h.Ready(); !errors.Is(err, plugin.ErrNotRunning) || !strings.Contains(err.Error(), "probe is refused") {
		t.Errorf("Ready: %v", err)
	}
}

func TestUnusableStateDirEndsRun(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := plugin.New(plugin.Config{Dir: t.TempDir(), StateDir: filepath.Join(file, "state")})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Run(t.Context()); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Run: want an error that names %s, found %v", file, err)
	}
}

func TestChangesAreTold(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var states []string
	h, _ := startProbe(t, func(c *plugin.Config) {
		c.OnChange = func(all []plugin.Status) {
			mu.Lock()
			defer mu.Unlock()
			for _, s := range all {
				states = append(states, string(s.State))
			}
		}
	})
	waittest.Until(t, "that it runs is told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Contains(states, "running")
	})
	h.end()
	mu.Lock()
	defer mu.Unlock()
	seen := fmt.Sprint(states)
	if !strings.Contains(seen, "starting") || !strings.Contains(seen, "running") || states[len(states)-1] != "stopped" {
		t.Errorf("found %s", seen)
	}
}
