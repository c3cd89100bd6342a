//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/perennial-go/perennial/plugin"
)

// TestKilledPluginResumesThroughTheHost runs the built plugin under a Manager
// and kills it in the middle of its work.
func TestKilledPluginResumesThroughTheHost(t *testing.T) {
	dir, logs := t.TempDir(), t.TempDir()
	path := filepath.Join(logs, "app.log")
	exe := filepath.Join(t.TempDir(), "logtail")
	if out, err := exec.Command("go", "build", "-ldflags", "-X main.version=1.0.0", "-o", exe, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	template, err := os.ReadFile("logtail.plugin.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m, err := plugin.ParseTemplate(template)
	if err != nil {
		t.Fatal(err)
	}
	m.Version = "1.0.0"
	m.Settings = map[string]any{"paths": []string{path}, "interval": "10ms"}
	if _, err := plugin.Install(dir, exe, m); err != nil {
		t.Fatal(err)
	}
	manager, err := plugin.New(plugin.Config{
		Dir: dir, StateDir: filepath.Join(t.TempDir(), "state"),
		ScanEvery: 50 * time.Millisecond, BackoffMin: 10 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	ended := make(chan error, 1)
	go func() { ended <- manager.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	write(t, path, "1\n2\n")
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var texts []string
	var cursor string
	enough := errors.New("enough")
	for ctx.Err() == nil && len(texts) < 4 {
		err := manager.Execute(ctx, "logtail", plugin.Task{Capability: "collect", Cursor: cursor}, func(r plugin.Result) error {
			var rec record
			if err := json.Unmarshal(r.Payload, &rec); err != nil {
				return err
			}
			texts, cursor = append(texts, rec.Text), r.Cursor
			if len(texts) == 2 {
				if err := syscall.Kill(manager.List()[0].PID, syscall.SIGKILL); err != nil {
					return err
				}
				write(t, path, "3\n4\n")
			}
			if len(texts) == 4 {
				return enough
			}
			return nil
		})
		switch {
		case errors.Is(err, plugin.ErrNotFound), errors.Is(err, plugin.ErrNotRunning), errors.Is(err, plugin.ErrInterrupted), errors.Is(err, enough):
			<-tick.C
		default:
			t.Fatal(err)
		}
	}
	if len(texts) != 4 || texts[2] != "3" || texts[3] != "4" {
		t.Errorf("found %q", texts)
	}
	if s := manager.List()[0]; s.Restarts != 1 {
		t.Errorf("want one restart, found %+v", s)
	}
}
