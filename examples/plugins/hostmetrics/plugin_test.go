package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
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

func started(t *testing.T, settings string) *hostmetrics {
	t.Helper()
	h := &hostmetrics{log: slog.New(slog.DiscardHandler)}
	if err := h.Start(t.Context(), []byte(settings)); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestBadSettingsAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ settings, says string }{
		"no proc":            {`{"root":"/nowhere"}`, "found /nowhere"},
		"relative root":      {`{"root":"host"}`, `found "host"`},
		"interval":           {`{"interval":"1ms"}`, "at least 100ms"},
		"no duration":        {`{"interval":"soon"}`, `found "soon"`},
		"relative mount":     {`{"mounts":["var"]}`, `found "var"`},
		"mount twice":        {`{"mounts":["/var","/var"]}`, "each once"},
		"unknown field":      {`{"intervall":"1s"}`, `unknown field "intervall"`},
		"field twice":        {`{"interval":"1s","Interval":"2s"}`, "occurs twice"},
		"no pattern":         {`{"skip_devices":["["]}`, "skip_devices"},
		"group not absolute": {`{"cgroups":["system.slice"]}`, "cgroups"},
		"group upwards":      {`{"cgroups":["/../*"]}`, "cgroups"},
		"groups too deep":    {`{"cgroups":["/*/*/*/*/*/*/*/*/*"]}`, "at most 8 levels"},
		"too many groups":    {`{"max_cgroups":1001}`, "max_cgroups"},
		"no metrics":         {`{"max_metrics":0}`, "max_metrics"},
	} {
		t.Run(name, func(t *testing.T) {
			h := &hostmetrics{log: slog.New(slog.DiscardHandler)}
			if err := h.Start(t.Context(), []byte(c.settings)); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("want %q, found %v", c.says, err)
			}
		})
	}
}

func TestFaultThatBeginsLaterShowsInHealthAndOnceInTheLog(t *testing.T) {
	root := newRoot(t, hostFiles(), version2Files())
	h := started(t, `{"root":"`+root+`","interval":"100ms"}`)
	var log strings.Builder
	h.log = slog.New(slog.NewTextHandler(&log, nil))
	ctx, cancel := context.WithCancel(t.Context())
	samples := 0
	err := h.Execute(ctx, sdk.Task{}, func(sdk.Result) error {
		switch samples++; samples {
		case 1:
			if err := h.Health(ctx); err != nil {
				t.Errorf("before: %v", err)
			}
			put(t, root, "proc/meminfo", "x y\n")
		case 3:
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := h.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "memory") {
		t.Errorf("health: %v", err)
	}
	if strings.Count(log.String(), "name=memory ") != 1 {
		t.Errorf("the log has\n%s", log.String())
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
		if s.Source != "hostmetrics" || s.Host == "" || s.values(t)["node_memory_MemTotal_bytes"] == 0 {
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
	h := started(t, `{"interval":"1h"}`)
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

// FuzzHostFiles puts anything into one of the files of a host.
func FuzzHostFiles(f *testing.F) {
	files := hostFiles()
	maps.Copy(files, version2Files())
	names := slices.Sorted(maps.Keys(files))
	for n, name := range names {
		f.Add(uint8(n), files[name]) //nolint:gosec // there are not that many
		if name == "proc/loadavg" {
			f.Add(uint8(n), "NaN Inf -1e999 1/1 1") //nolint:gosec // likewise
		}
	}
	root := newRoot(f, files)
	set, err := readSettings([]byte(`{"root":"` + root + `","cgroups":["/","/*","/*/*"],"max_metrics":1000}`))
	if err != nil {
		f.Fatal(err)
	}
	h, err := newSampler(set, &statter{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, n uint8, text string) {
		name := names[int(n)%len(names)]
		put(t, root, name, text)
		s := h.sample()
		put(t, root, name, files[name])
		if len(s.Metrics) > 1000 || len(s.Problems) > maxProblems || len(s.Metrics) < 50 {
			t.Errorf("%d metrics, %d problems", len(s.Metrics), len(s.Problems))
		}
		if _, err := json.Marshal(s); err != nil {
			t.Error(err)
		}
	})
}

// FuzzGroupFiles reads what the kernel writes about groups.
func FuzzGroupFiles(f *testing.F) {
	for _, files := range []map[string]string{version1Files(), version2Files()} {
		for _, text := range files {
			f.Add([]byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for key := range keyed(data) {
			if strings.ContainsAny(key, " \n") {
				t.Errorf("key %q", key)
			}
		}
		if p := stallOf(data); p.some < 0 || p.full < 0 {
			t.Errorf("%+v", p)
		}
		for device := range ioStat(data) {
			if !isDevice(device) {
				t.Errorf("device %q", device)
			}
		}
		blkio(data, func(device, _ string, n float64) {
			if !isDevice(device) || n < 0 {
				t.Errorf("device %q, %v", device, n)
			}
		})
		numberOf(data)
		_, _ = threadsOf(string(data))
	})
}

func FuzzSettings(f *testing.F) {
	f.Add([]byte(`{"interval":"1s","cgroups":["/a/*"],"mounts":["/"],"max_metrics":7}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := readSettings(data)
		if err == nil && (s.every < minInterval || !filepath.IsAbs(s.Root) || s.MaxCgroups > mostCgroups) {
			t.Errorf("%+v", s)
		}
	})
}
