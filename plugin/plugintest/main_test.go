//go:build unix

package plugintest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/perennial-go/perennial/internal/reexec"
	"github.com/perennial-go/perennial/plugin"
)

// The test binary is also the plugins that the suite is put on: what a copy of
// it is to be is its payload.

// build is what a copy is to be.
type build struct {
	Name string
	// SDK is a plugin of package sdk, else it is raw.
	SDK bool
	// Fault spoils a raw one.
	Fault string
}

func TestMain(m *testing.M) {
	if err := reexec.ExitAtOnce(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var b build
	if reexec.Payload(&b) != nil {
		// Most of the time the tests wait for a process to do nothing.
		flag.Parse()
		if err := flag.Set("test.parallel", "8"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		goleak.VerifyTestMain(m)
		return
	}
	serve := newRaw(b.Name, "1.2.3").serve
	switch {
	case b.SDK:
		serve = serveSDK
	case b.Fault != "":
		serve = func() error { return serveFault(b.Fault) }
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// executable makes one with its manifest beside it.
func executable(tb testing.TB, b build) (path string, m plugin.Manifest) {
	tb.Helper()
	path = filepath.Join(tb.TempDir(), b.Name)
	if err := reexec.Copy(path, b); err != nil {
		tb.Fatal(err)
	}
	return path, plugin.Manifest{
		Name: b.Name, Version: "1.2.3", Capabilities: []string{"count", "large", "loud", "hopeless"},
		Settings: map[string]any{"colour": "green"},
	}
}

// known is what the suite is told of the plugins here.
func known(m plugin.Manifest) Config {
	return Config{
		Manifest:    m,
		BadSettings: []byte(`{"colour":"bad"}`),
		Short:       plugin.Task{Capability: "count", Payload: []byte("100")},
		Long:        plugin.Task{Capability: "count"},
		Resumes:     true,
		Large:       plugin.Task{Capability: "large"},
		Hopeless:    plugin.Task{Capability: "hopeless"},
		Loud:        plugin.Task{Capability: "loud"},
	}
}

func TestPluginWithoutSDKPasses(t *testing.T) {
	t.Parallel()
	path, m := executable(t, build{Name: "raw"})
	known(m).Run(t, path)
}

func TestPluginOfTheSDKPasses(t *testing.T) {
	t.Parallel()
	path, m := executable(t, build{Name: "sdk", SDK: true})
	known(m).Run(t, path)
}
