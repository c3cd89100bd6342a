package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/perennial-go/perennial/examples/internal/hosttest"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/sdk"
)

func TestMain(m *testing.M) {
	if runtime.GOOS != "linux" {
		os.Exit(0) // there is no /proc to read
	}
	goleak.VerifyTestMain(m)
}

// procDir lays out a small procfs.
func procDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "net"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func goodProc() map[string]string {
	return map[string]string{
		"stat":      "cpu  100 20 30 1000 50 1 2 3 0 0\ncpu0 50 10 15 500 25 0 1 1 0 0\ncpu1 50 10 15 500 25 1 1 2 0 0\nintr 1\n",
		"meminfo":   "MemTotal:  2048 kB\nMemFree: 1 kB\nMemAvailable: 1024 kB\nCached: 512 kB\nSwapTotal: 4 kB\nSwapFree: 3 kB\n",
		"diskstats": "   8 0 sda 10 1 100 5 20 2 200 6 0 7 8 0 0 0 0\n   7 0 loop0 1 1 1 1 1 1 1 1 1 1 1 1\n",
		"net/dev":   "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed\n  lo: 5 6 7 0 0 0 0 0 8 9 1 0 0 0 0 0\neth0:15 16 17 0 0 0 0 0 18 19 11 0 0 0 0 0\n",
	}
}

func TestSampleHoldsTheKernelsFigures(t *testing.T) {
	files := goodProc()
	settings := []byte(`{"proc":"` + procDir(t, files) + `","mounts":["/"]}`)
	if err := (&hostmetrics{}).Start(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	h, err := newSampler(settings)
	if err != nil {
		t.Fatal(err)
	}
	first, err := h.sample(nil)
	if err != nil {
		t.Fatal(err)
	}
	if c := first.CPU; c.Processors != 2 || c.UserSeconds != 1.2 || c.SysSeconds != 0.33 || c.IdleSeconds != 10 || c.WaitSeconds != 0.5 || c.Busy != nil {
		t.Errorf("cpu %+v", c)
	}
	if m := first.Memory; m != (memory{2048 << 10, 1024 << 10, 512 << 10, 4 << 10, 3 << 10}) {
		t.Errorf("memory %+v", m)
	}
	if len(first.Disks) != 1 || first.Disks[0] != (disk{"sda", 10, 100 * 512, 20, 200 * 512}) {
		t.Errorf("disks %+v", first.Disks)
	}
	if len(first.Network) != 2 || first.Network[1] != (netInterface{"eth0", 15, 16, 17, 18, 19, 11}) {
		t.Errorf("network %+v", first.Network)
	}
	if len(first.Filesystems) != 1 || first.Filesystems[0].TotalBytes == 0 {
		t.Errorf("file systems %+v", first.Filesystems)
	}
	// 100 ticks more, 75 of them busy.
	files["stat"] = "cpu  175 20 30 1025 50 1 2 3 0 0\n"
	h.proc = procfs(procDir(t, files))
	second, err := h.sample(first)
	if err != nil || second.CPU.Busy == nil || *second.CPU.Busy < 0.749 || *second.CPU.Busy > 0.751 {
		t.Errorf("busy %+v, %v", second.CPU.Busy, err)
	}
}

func TestUnreadableProcAndBadSettingsAreRefused(t *testing.T) {
	broken := func(name, data string) string {
		files := goodProc()
		files[name] = data
		return `{"proc":"` + procDir(t, files) + `"}`
	}
	for name, c := range map[string]struct{ settings, says string }{
		"no proc":        {`{"proc":"/nowhere"}`, "/nowhere/stat"},
		"empty stat":     {broken("stat", ""), "want a line \"cpu\""},
		"empty meminfo":  {broken("meminfo", "x\n"), "want MemTotal"},
		"interval":       {`{"interval":"1ms"}`, "at least 100ms"},
		"no duration":    {`{"interval":"soon"}`, `found "soon"`},
		"relative mount": {`{"mounts":["var"]}`, `found "var"`},
		"no such mount":  {`{"mounts":["/nowhere"]}`, "file system /nowhere"},
		"unknown field":  {`{"intervall":"1s"}`, `unknown field "intervall"`},
	} {
		t.Run(name, func(t *testing.T) {
			if err := (&hostmetrics{}).Start(t.Context(), []byte(c.settings)); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("want %q, found %v", c.says, err)
			}
		})
	}
}

func TestSampleThatFailsLaterShowsInHealth(t *testing.T) {
	h := &hostmetrics{}
	dir := procDir(t, goodProc())
	if err := h.Start(t.Context(), []byte(`{"proc":"`+dir+`","interval":"100ms"}`)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := h.Execute(ctx, sdk.Task{}, func(sdk.Result) error {
		cancel()
		return os.Remove(filepath.Join(dir, "meminfo"))
	})
	if !errors.Is(err, context.Canceled) || h.Health(t.Context()) != nil {
		t.Fatalf("%v, %v", err, h.Health(t.Context()))
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	_ = h.Execute(ctx, sdk.Task{}, func(sdk.Result) error { t.Error("a sample without memory was sent"); return nil })
	if err := h.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "meminfo") {
		t.Errorf("health: %v", err)
	}
}

// TestBuiltPluginFeedsItsHost runs the built plugin under a Manager.
func TestBuiltPluginFeedsItsHost(t *testing.T) {
	host := hosttest.Start(t, map[string]any{"interval": "100ms"})
	samples := 0
	host.Collect(func(r plugin.Result) error {
		var s sample
		if err := json.Unmarshal(r.Payload, &s); err != nil {
			return err
		}
		if s.Memory.TotalBytes == 0 || s.Source != "hostmetrics" || (s.CPU.Busy != nil) != (samples > 0) {
			t.Errorf("sample %d: %s", samples, r.Payload)
		}
		if samples++; samples == 3 {
			return hosttest.ErrEnough
		}
		return nil
	})
	if samples != 3 {
		t.Errorf("want 3 samples, found %d", samples)
	}
}

func TestSettingsOfTheTaskGoBeforeTheManifests(t *testing.T) {
	h := &hostmetrics{}
	if err := h.Start(t.Context(), []byte(`{"interval":"1h","mounts":[]}`)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	samples := 0
	err := h.Execute(ctx, sdk.Task{Payload: []byte(`{"interval":"100ms"}`)}, func(sdk.Result) error {
		if samples++; samples == 2 {
			cancel()
		}
		return nil
	})
	if samples != 2 {
		t.Errorf("%d samples, %v: the manifest's interval of an hour was kept", samples, err)
	}
	bad := sdk.Task{Payload: []byte(`{"interval":"never"}`)}
	if err := h.Execute(t.Context(), bad, func(sdk.Result) error { return nil }); err == nil {
		t.Error("a bad setting was taken")
	}
}
