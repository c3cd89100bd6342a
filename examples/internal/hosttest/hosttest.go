// Package hosttest builds the example plugins and runs them under a host,
// for their own tests and agentd's.
package hosttest

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/perennial-go/perennial/plugin"
)

// Install builds the plugin whose package is in the directory source, as a
// user would, and puts it into dir, with settings over those of its template.
func Install(tb testing.TB, dir, source, version string, settings map[string]any) {
	tb.Helper()
	source, err := filepath.Abs(source)
	if err != nil {
		tb.Fatal(err)
	}
	name := filepath.Base(source)
	template, err := os.ReadFile(filepath.Join(source, name+plugin.ManifestSuffix))
	if err != nil {
		tb.Fatal(err)
	}
	manifest, err := plugin.ParseTemplate(template)
	if err != nil {
		tb.Fatal(err)
	}
	manifest.Version = version
	maps.Copy(manifest.Settings, settings)
	executable := filepath.Join(tb.TempDir(), plugin.ExecutableName(name))
	cmd := exec.CommandContext(tb.Context(), "go", "build", "-race=false", "-ldflags", "-X main.version="+version, "-o", executable, ".")
	cmd.Dir = source
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%v in %s: %v\n%s", cmd, source, err, out)
	}
	if _, err := plugin.Install(dir, executable, manifest); err != nil {
		tb.Fatal(err)
	}
}

// Host runs one plugin.
type Host struct {
	*plugin.Manager
	tb   testing.TB
	name string
}

// Start installs the plugin whose package is in the working directory and
// runs it until the end of the test.
func Start(tb testing.TB, settings map[string]any) *Host {
	tb.Helper()
	source, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	Install(tb, dir, source, "1.0.0", settings)
	m, err := plugin.New(plugin.Config{
		Dir: dir, StateDir: filepath.Join(tb.TempDir(), "state"),
		ScanEvery: 50 * time.Millisecond, BackoffMin: 10 * time.Millisecond, DrainTimeout: time.Second,
	})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Errorf("Run: %v", err)
		}
	})
	return &Host{Manager: m, tb: tb, name: filepath.Base(source)}
}

// ErrEnough is what ends Collect.
var ErrEnough = errors.New("enough")

// Collect executes the plugin's task "collect" and hands its results to each,
// until that returns ErrEnough or a minute has passed. While the plugin does
// not run yet, and after the errors in again, it executes the task anew from
// the last cursor; any other error ends the test.
func (h *Host) Collect(each func(plugin.Result) error, again ...error) {
	h.tb.Helper()
	again = append(again, plugin.ErrNotFound, plugin.ErrNotRunning)
	ctx, cancel := context.WithTimeout(h.tb.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	cursor := ""
	for ctx.Err() == nil {
		err := h.Execute(ctx, h.name, plugin.Task{Capability: "collect", Cursor: cursor}, func(r plugin.Result) error {
			cursor = r.Cursor
			return each(r)
		})
		switch {
		case errors.Is(err, ErrEnough):
			return
		case !slices.ContainsFunc(again, func(e error) bool { return errors.Is(err, e) }):
			h.tb.Fatal(err)
		}
		<-tick.C
	}
}
