//go:build unix

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/perennial-go/perennial/examples/internal/hosttest"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/plugintest"
)

func TestSamplerKeepsTheProtocol(t *testing.T) {
	source, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	hosttest.Install(t, dir, source, "1.0.0", map[string]any{"interval": "100ms"})
	plugintest.Config{
		BadSettings: []byte(`{"interval":"often"}`),
		Long:        plugin.Task{Capability: "collect"},
	}.Run(t, filepath.Join(dir, "hostmetrics"))
}
