//go:build unix

package main

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/perennial-go/perennial/examples/internal/hosttest"
	"github.com/perennial-go/perennial/plugin"
)

// TestKilledPluginResumesThroughTheHost runs the built plugin under a Manager
// and kills it in the middle of its work.
func TestKilledPluginResumesThroughTheHost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	host := hosttest.Start(t, map[string]any{"paths": []string{path}, "interval": "10ms"})
	write(t, path, "1\n2\n")
	var texts []string
	host.Collect(func(r plugin.Result) error {
		recs, err := records(r.Payload)
		if err != nil {
			return err
		}
		for _, rec := range recs {
			texts = append(texts, rec.Text)
		}
		if len(texts) == 2 {
			if err := syscall.Kill(host.List()[0].PID, syscall.SIGKILL); err != nil {
				return err
			}
			write(t, path, "3\n4\n")
		}
		if len(texts) == 4 {
			return hosttest.ErrEnough
		}
		return nil
	}, plugin.ErrInterrupted)
	if len(texts) != 4 || texts[2] != "3" || texts[3] != "4" {
		t.Errorf("found %q", texts)
	}
	if s := host.List()[0]; s.Restarts != 1 {
		t.Errorf("want one restart, found %+v", s)
	}
}
