//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/examples/internal/hosttest"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/plugintest"
)

func TestFollowerKeepsTheProtocol(t *testing.T) {
	source, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	// More than a host takes unread.
	path, dir := filepath.Join(t.TempDir(), "app.log"), t.TempDir()
	write(t, path, strings.Repeat("another line\n", 20_000))
	hosttest.Install(t, dir, source, "1.0.0", map[string]any{"paths": []string{path}, "interval": "10ms"})
	// Not Resumes: where a batch of lines ends is not the same each time. That
	// each line comes once has tests of its own.
	plugintest.Config{
		BadSettings: []byte(`{"paths":[]}`),
		Long:        plugin.Task{Capability: "collect"},
	}.Run(t, filepath.Join(dir, "logtail"))
}
